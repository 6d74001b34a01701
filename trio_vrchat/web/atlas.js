/**
 * One picture that holds all that is written in the room: names, bubbles, and a headset's panel and ring.
 *
 *      0 ┌──────────────────────────┐
 *        │ names: 8 × 8             │  256 × 64 each
 *    512 ├──────────────────────────┤
 *        │ bubbles: 4 × 4           │  512 × 128 each
 *   1024 ├────────────┬─────────────┤
 *        │ panel      │ ring        │  1024 × 1024 each
 *   2048 └────────────┴─────────────┘
 *
 * - Places are bounded, people are not: whoever was drawn longest ago gives theirs up. The nearest are asked for first, and so have one.
 * - Painting takes time: at most `PAINTINGS` a frame, the others wait for the next.
 * - What a user wrote is clipped to its place.
 */

export const ATLAS_SIZE = 2048;
const NAME = { width: 256, height: 64, top: 0 };
const BUBBLE = { width: 512, height: 128, top: 512 };
const HALF = 1024;
const PAINTINGS = 4;
const FONT = 'system-ui, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans", sans-serif';
export const INK = '#1c2540', PAPER = 'rgba(255, 255, 255, 0.94)';

/** @typedef {{part: number[], aspect: number}} Picture a part of the atlas (left, top, width, height, from 0 to 1), and its width by its height */
/** @typedef {typeof NAME} Kind */

class Places {
  /** @type {Map<string, {slot: number, picture: Picture, used: number}>} least recently used first */
  #taken = new Map();
  #across;
  #count;

  /** @param {Kind} kind */
  constructor(kind) {
    this.kind = kind;
    this.#across = ATLAS_SIZE / kind.width;
    this.#count = this.#across * (512 / kind.height);
  }

  /** @param {string} key @param {number} frame @returns {Picture | undefined} */
  get(key, frame) {
    const found = this.#taken.get(key);
    if (found === undefined) return undefined;
    found.used = frame;
    this.#taken.delete(key);
    this.#taken.set(key, found);
    return found.picture;
  }

  /** A place for one more, or undefined where all are in use. @param {string} key @param {number} frame */
  take(key, frame) {
    let slot = this.#taken.size;
    if (slot === this.#count) {
      const [oldest, { slot: freed, used }] = this.#taken.entries().next().value ?? ['', { slot: 0, used: frame }];
      if (used === frame) return undefined;
      this.#taken.delete(oldest);
      slot = freed;
    }
    const place = { slot, picture: { part: [0, 0, 0, 0], aspect: 1 }, used: frame };
    this.#taken.set(key, place);
    const left = (slot % this.#across) * this.kind.width;
    const top = this.kind.top + Math.floor(slot / this.#across) * this.kind.height;
    return { left, top, picture: place.picture };
  }
}

export class Atlas {
  #renderer;
  #names = new Places(NAME);
  #bubbles = new Places(BUBBLE);
  #frame = 0;
  #painted = 0;

  /** @param {import('./renderer.js').Renderer} renderer */
  constructor(renderer) {
    this.#renderer = renderer;
  }

  begin() {
    this.#frame++;
    this.#painted = 0;
  }

  /** Was everything that was asked for painted, so that the next frame would look the same? */
  get complete() {
    return this.#painted < PAINTINGS;
  }

  /** @param {string} name @param {string} colour */
  name(name, colour) {
    return this.#picture(this.#names, name, (paint) => paintName(paint, name, colour));
  }

  /** @param {string} text */
  bubble(text) {
    return this.#picture(this.#bubbles, text, (paint) => paintBubble(paint, text));
  }

  /** @type {Picture} */
  static PANEL = { part: [0, 0.5, 0.5, 0.5], aspect: 1 };
  /** @type {Picture} */
  static RING = { part: [0.5, 0.5, 0.5, 0.5], aspect: 1 };

  /** @param {Picture} picture @param {(paint: CanvasRenderingContext2D, size: number) => void} painter */
  large(picture, painter) {
    const paint = canvas(HALF, HALF);
    painter(paint, HALF);
    this.#renderer.paint(paint.canvas, picture.part[0] * ATLAS_SIZE, picture.part[1] * ATLAS_SIZE);
  }

  /** @param {Places} places @param {string} key @param {(paint: CanvasRenderingContext2D) => number} painter returns the width that it took */
  #picture(places, key, painter) {
    const known = places.get(key, this.#frame);
    if (known || this.#painted >= PAINTINGS) return known;
    const place = places.take(key, this.#frame);
    if (place === undefined) return undefined;
    this.#painted++;
    const { width, height } = places.kind;
    const paint = canvas(width, height);
    const taken = painter(paint);
    this.#renderer.paint(paint.canvas, place.left, place.top);
    place.picture.part = [place.left, place.top, taken, height].map((pixels) => pixels / ATLAS_SIZE);
    place.picture.aspect = taken / height;
    return place.picture;
  }
}

/** @type {Map<number, CanvasRenderingContext2D>} one for each width: three */
const canvases = new Map();

/** A clean sheet. @param {number} width @param {number} height */
function canvas(width, height) {
  let paint = canvases.get(width);
  if (paint === undefined) {
    const element = document.createElement('canvas');
    element.width = width;
    element.height = height;
    paint = /** @type {CanvasRenderingContext2D} */ (element.getContext('2d'));
    canvases.set(width, paint);
  }
  paint.clearRect(0, 0, width, height);
  paint.textBaseline = 'middle';
  paint.textAlign = 'left';
  return paint;
}

/** @param {CanvasRenderingContext2D} paint @param {number} size @param {number} [weight] */
export function font(paint, size, weight = 600) {
  paint.font = `${weight} ${size}px ${FONT}`;
}

/** As much of a text as fits together with its tail. @param {CanvasRenderingContext2D} paint @param {string} text @param {number} width @param {string} tail */
function fitting(paint, text, width, tail) {
  const characters = [...text];
  let [fits, tooLong] = [0, characters.length + 1];
  while (tooLong - fits > 1) {
    const middle = (fits + tooLong) >> 1;
    if (paint.measureText(characters.slice(0, middle).join('') + tail).width <= width) fits = middle;
    else tooLong = middle;
  }
  return characters.slice(0, fits).join('');
}

/** A text, with a sign where it had to be cut. @param {CanvasRenderingContext2D} paint @param {string} text @param {number} width */
export function clipped(paint, text, width) {
  return paint.measureText(text).width <= width ? text : `${fitting(paint, text, width, '…')}…`;
}

/** A text in lines, the last of them clipped. @param {CanvasRenderingContext2D} paint @param {string} text @param {number} width @param {number} most */
export function wrapped(paint, text, width, most) {
  /** @type {string[]} */
  const lines = [];
  let rest = text.slice(0, 400).replace(/\s+/g, ' ').trim();
  while (rest && lines.length < most - 1 && paint.measureText(rest).width > width) {
    const part = fitting(paint, rest, width, '');
    const space = part.lastIndexOf(' ');
    // A word that is too long for a line is cut.
    const line = rest[part.length] === ' ' || space < part.length / 2 ? part : part.slice(0, space);
    // Not one character fits.
    if (line === '') break;
    lines.push(line);
    rest = rest.slice(line.length).trimStart();
  }
  if (rest) lines.push(clipped(paint, rest, width));
  return lines;
}

/** Lines of about one length: a last one of one word looks lost. @param {CanvasRenderingContext2D} paint @param {string} text @param {number} width @param {number} most */
function balanced(paint, text, width, most) {
  const lines = wrapped(paint, text, width, most);
  const together = lines.reduce((sum, line) => sum + paint.measureText(line).width, 0);
  const even = wrapped(paint, text, Math.min(width, (together / lines.length) * 1.15), most);
  return lines.length > 1 && lines.length === even.length && !even.at(-1)?.endsWith('…') ? even : lines;
}

/** @param {CanvasRenderingContext2D} paint @param {string} name @param {string} colour */
function paintName(paint, name, colour) {
  font(paint, 30);
  const text = clipped(paint, name, NAME.width - 66);
  const width = Math.min(NAME.width, Math.ceil(paint.measureText(text).width) + 66);
  paint.fillStyle = PAPER;
  paint.beginPath();
  paint.roundRect(4, 7, width - 8, 50, 25);
  paint.fill();
  paint.fillStyle = colour;
  paint.beginPath();
  paint.arc(29, 32, 9, 0, 7);
  paint.fill();
  paint.fillStyle = INK;
  paint.fillText(text, 46, 33);
  return width;
}

/** @param {CanvasRenderingContext2D} paint @param {string} text */
function paintBubble(paint, text) {
  const sign = /^\p{Extended_Pictographic}\uFE0F?$/u.test(text);
  font(paint, sign ? 72 : 28, 500);
  const lines = balanced(paint, text, BUBBLE.width - 56, 3);
  const widest = Math.max(...lines.map((line) => paint.measureText(line).width), 30);
  const width = Math.min(BUBBLE.width, Math.ceil(widest) + 56);
  const height = sign ? 104 : 24 + lines.length * 28;
  const top = 112 - height;
  paint.fillStyle = PAPER;
  paint.beginPath();
  paint.roundRect(6, top, width - 12, height, 24);
  paint.moveTo(width / 2 - 13, 111);
  paint.lineTo(width / 2, 126);
  paint.lineTo(width / 2 + 13, 111);
  paint.fill();
  paint.fillStyle = INK;
  paint.textAlign = 'center';
  for (const [i, line] of lines.entries()) paint.fillText(line, width / 2, sign ? 64 : top + 27 + i * 28);
  return width;
}
