/**
 * Keyboard, mouse and touch, as wishes to walk and to look.
 *
 * - W, A, S, D and up, down walk; left, right turn; Q and E turn by a step; Shift is faster. Keys that a field of text has are not ours.
 * - Dragging with the mouse looks. By touch the left half of the view walks, the right half looks, both at once if you like.
 * - A key that is let go elsewhere (another window had the focus) is let go here, too.
 */

const SNAP_RAD = Math.PI / 6;
/** From one edge of the view to the other. */
const DRAG_RAD = 2.6, KEY_TURN_RAD_S = 1.8;
const WALK_M_S = 1.7, RUN_M_S = 3.6;
const STICK_PX = 48;
const KEYS = new Map([
  ['KeyW', [0, 1]], ['ArrowUp', [0, 1]], ['KeyS', [0, -1]], ['ArrowDown', [0, -1]], ['KeyA', [-1, 0]], ['KeyD', [1, 0]],
]);

/** @typedef {{right: number, forward: number, turn: number, up: number}} Wish metres and radians for this frame */

export class Controls {
  /** @type {Set<string>} codes of the keys that are held */
  #held = new Set();
  #turn = 0;
  #up = 0;
  /** @type {Map<number, {x: number, y: number, walks: boolean, startX: number, startY: number}>} */
  #pointers = new Map();
  #canvas;
  #stick;

  /** @param {HTMLCanvasElement} canvas @param {HTMLElement} stick shows where a thumb walks */
  constructor(canvas, stick) {
    this.#canvas = canvas;
    this.#stick = stick;
    addEventListener('keydown', (event) => this.#press(event));
    addEventListener('keyup', ({ code }) => this.#held.delete(code));
    addEventListener('blur', () => this.#held.clear());
    addEventListener('focusin', () => this.#held.clear());
    canvas.addEventListener('pointerdown', (event) => this.#down(event));
    canvas.addEventListener('pointermove', (event) => this.#drag(event));
    for (const type of /** @type {const} */ (['pointerup', 'pointercancel'])) {
      canvas.addEventListener(type, (event) => this.#lift(event));
    }
  }

  /** What is wished for this frame. @param {number} passed seconds @returns {Wish | null} null: nothing */
  read(passed) {
    let [right, forward, turn] = [0, 0, this.#turn];
    for (const code of this.#held) {
      const [r, f] = KEYS.get(code) ?? [0, 0];
      right += r;
      forward += f;
      if (code === 'ArrowLeft') turn += KEY_TURN_RAD_S * passed;
      if (code === 'ArrowRight') turn -= KEY_TURN_RAD_S * passed;
    }
    for (const { walks, x, y, startX, startY } of this.#pointers.values()) {
      if (!walks) continue;
      right += (x - startX) / STICK_PX;
      forward -= (y - startY) / STICK_PX;
    }
    const up = this.#up;
    this.#turn = this.#up = 0;
    if (!right && !forward && !turn && !up) return null;
    const fast = this.#held.has('ShiftLeft') || this.#held.has('ShiftRight');
    const speed = ((fast ? RUN_M_S : WALK_M_S) * passed) / Math.max(1, Math.hypot(right, forward));
    return { right: right * speed, forward: forward * speed, turn, up };
  }

  /** @param {KeyboardEvent} event */
  #press({ code, target, ctrlKey, metaKey, altKey, repeat }) {
    if (ctrlKey || metaKey || altKey || isText(target)) return;
    // Lists and buttons use the arrows, too.
    if (code.startsWith('Arrow') && target !== this.#canvas && target !== document.body) return;
    this.#held.add(code);
    if (repeat) return;
    if (code === 'KeyQ') this.#turn += SNAP_RAD;
    if (code === 'KeyE') this.#turn -= SNAP_RAD;
  }

  /** @param {PointerEvent} event */
  #down({ pointerId, pointerType, clientX: x, clientY: y }) {
    this.#canvas.setPointerCapture(pointerId);
    const walks = pointerType === 'touch' && x < innerWidth / 2;
    this.#pointers.set(pointerId, { x, y, walks, startX: x, startY: y });
    if (walks) this.#showStick(x, y, 0, 0);
  }

  /** @param {PointerEvent} event */
  #drag({ pointerId, clientX, clientY }) {
    const pointer = this.#pointers.get(pointerId);
    if (pointer === undefined) return;
    if (!pointer.walks) {
      const scale = DRAG_RAD / Math.max(innerWidth, innerHeight);
      this.#turn += (clientX - pointer.x) * scale;
      this.#up += (clientY - pointer.y) * scale;
    } else {
      const [x, y] = [clientX - pointer.startX, clientY - pointer.startY];
      const share = Math.min(1, STICK_PX / (Math.hypot(x, y) || 1));
      this.#showStick(pointer.startX, pointer.startY, x * share, y * share);
    }
    pointer.x = clientX;
    pointer.y = clientY;
  }

  /** @param {PointerEvent} event */
  #lift({ pointerId }) {
    this.#pointers.delete(pointerId);
    if (![...this.#pointers.values()].some(({ walks }) => walks)) this.#stick.hidden = true;
  }

  /** @param {number} x @param {number} y @param {number} knobX @param {number} knobY */
  #showStick(x, y, knobX, knobY) {
    this.#stick.hidden = false;
    this.#stick.style.left = `${x}px`;
    this.#stick.style.top = `${y}px`;
    /** @type {HTMLElement} */ (this.#stick.firstElementChild).style.transform = `translate(${knobX}px, ${knobY}px)`;
  }
}

/** Does a key that is pressed there write something? @param {EventTarget | null} target */
export function isText(target) {
  return target instanceof HTMLInputElement;
}
