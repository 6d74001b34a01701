/**
 * What a headset shows of the interface, which it cannot see: the chat on a panel to the left, and the ring of phrases.
 *
 * - The panel stays where it is while one looks around, and comes along when one has turned away from it.
 * - It is painted anew when its text has changed, and at most a few times a second: a large picture costs a headset time.
 */

import { ATLAS_SIZE, Atlas, INK, PAPER, clipped, font, wrapped } from './atlas.js';
import { lookOf } from './figure.js';
import { fromEuler, multiply, rotate } from './maths.js';
import { PHRASES, wordsOf } from './phrases.js';
import { Ring } from './ring.js';

/** In metres, as seen from the head: where, and how large. */
const PLACE = [-0.5, -0.26, -0.85], TURN = [-0.28, 0.5], WIDTH_M = 0.52;
const HEIGHT = 0.75;
const FOLLOW_BEYOND_RAD = 1.0, FOLLOW_SPEED = 4;
const PAINT_EVERY_S = 0.3;
const LINES = 12;
/** A choice of the ring: a quarter of the ring's part of the atlas, in each direction. */
const CELL = 256, CHOICE_M = 0.105;

export class Panel {
  visible = true;
  #yaw = NaN;
  #follows = false;
  #text = '';
  #paintedAt = -Infinity;
  #ringPainted = false;
  #quat = [0, 0, 0, 1];
  #tilt = [0, 0, 0, 1];

  /** Into the atlas, if it has changed. @param {Atlas} atlas @param {import('./room.js').Room | null} room @param {string} notice @param {number} now */
  paint(atlas, room, notice, now) {
    if (!this.#ringPainted) {
      atlas.large(Atlas.RING, paintRing);
      this.#ringPainted = true;
    }
    if (room === null || now - this.#paintedAt < PAINT_EVERY_S) return;
    const lines = room.log.slice(-2 * LINES).filter(({ type, data }) => wordsOf(type, data) !== '').slice(-LINES);
    const text = JSON.stringify([room.name, room.members.size, notice, lines.map(({ time, user }) => [time, user])]);
    if (text === this.#text) return;
    this.#text = text;
    this.#paintedAt = now;
    atlas.large(Atlas.PANEL, (paint, size) => paintPanel(paint, size, size * HEIGHT, room, lines, notice));
  }

  /** @param {import('./renderer.js').Scene} scene @param {number[]} head @param {number} heading where it looks @param {number} passed */
  draw(scene, head, heading, passed) {
    if (!this.visible) return;
    if (Number.isNaN(this.#yaw)) this.#yaw = heading;
    const off = Math.atan2(Math.sin(heading - this.#yaw), Math.cos(heading - this.#yaw));
    if (Math.abs(off) > FOLLOW_BEYOND_RAD) this.#follows = true;
    if (this.#follows) this.#yaw += off * (1 - Math.exp(-FOLLOW_SPEED * passed));
    if (Math.abs(off) < 0.1) this.#follows = false;
    fromEuler(this.#quat, 0, this.#yaw, 0);
    const at = rotate([0, 0, 0], this.#quat, PLACE).map((part, i) => part + head[i]);
    multiply(this.#quat, this.#quat, fromEuler(this.#tilt, TURN[0], TURN[1], 0));
    const [left, top, width, height] = Atlas.PANEL.part;
    scene.labels.push(...at, ...this.#quat, WIDTH_M, WIDTH_M * HEIGHT, 1, left, top, width, height * HEIGHT);
  }
}

/** @param {import('./renderer.js').Scene} scene @param {Ring} ring */
export function drawRing(scene, ring) {
  const [left, top] = Atlas.RING.part;
  const cell = CELL / ATLAS_SIZE;
  const order = [...PHRASES.keys()];
  // The chosen one last, over its neighbours.
  order.sort((a, b) => Number(a === ring.choice) - Number(b === ring.choice));
  for (const i of order) {
    const size = CHOICE_M * (i === ring.choice ? 1.4 : 1);
    const shown = ring.choice === -1 || i === ring.choice ? 1 : 0.65;
    const [column, row] = [i % 4, Math.floor(i / 4)];
    scene.labels.push(...Ring.place(i, ring), ...ring.quat, size, size, shown, left + column * cell, top + row * cell, cell, cell);
  }
}

/** @param {CanvasRenderingContext2D} paint */
function paintRing(paint) {
  paint.textAlign = 'center';
  for (const [i, { sign, type }] of PHRASES.entries()) {
    const [x, y] = [(i % 4) * CELL + CELL / 2, Math.floor(i / 4) * CELL + CELL / 2];
    paint.fillStyle = PAPER;
    paint.beginPath();
    paint.arc(x, y, 112, 0, 7);
    paint.fill();
    paint.fillStyle = INK;
    font(paint, type === 'emote' ? 110 : 46);
    const lines = wrapped(paint, sign, 190, 2);
    for (const [j, line] of lines.entries()) paint.fillText(line, x, y + (j - (lines.length - 1) / 2) * 50 + 4);
  }
}

/**
 * @param {CanvasRenderingContext2D} paint
 * @param {number} width
 * @param {number} height
 * @param {import('./room.js').Room} room
 * @param {import('./room.js').Line[]} lines
 * @param {string} notice
 */
function paintPanel(paint, width, height, room, lines, notice) {
  paint.fillStyle = PAPER;
  paint.beginPath();
  paint.roundRect(8, 8, width - 16, height - 16, 44);
  paint.fill();
  paint.fillStyle = INK;
  font(paint, 46, 700);
  paint.fillText(clipped(paint, room.name, width - 330), 52, 70);
  paint.textAlign = 'right';
  font(paint, 34, 400);
  paint.fillText(room.members.size === 1 ? 'only you' : `${room.members.size} people`, width - 52, 71);
  paint.textAlign = 'left';
  paint.fillStyle = notice ? '#b3261e' : '#4f5a78';
  font(paint, 30, notice ? 600 : 400);
  paint.fillText(clipped(paint, notice || 'Hold the trigger or pinch: wave, answer, clap …', width - 104), 52, height - 56);
  // From the newest upwards, as many as there is room for.
  let bottom = height - 112;
  for (const line of lines.toReversed()) {
    font(paint, 36, 700);
    const name = clipped(paint, line.user, 300);
    const indent = paint.measureText(name).width + 50;
    font(paint, 36, 400);
    const said = wrapped(paint, wordsOf(line.type, line.data), width - 104 - indent, 3);
    const top = bottom - (said.length - 1) * 44;
    if (top < 130) break;
    paint.fillStyle = lookOf(line.user).css;
    paint.beginPath();
    paint.arc(62, top, 10, 0, 7);
    paint.fill();
    paint.fillStyle = line.type === 'msg' ? INK : '#4f5a78';
    for (const [i, part] of said.entries()) paint.fillText(part, 52 + indent - 10, top + i * 44);
    font(paint, 36, line.type === 'msg' ? 700 : 400);
    paint.fillText(name, 84, top);
    bottom = top - 50;
  }
}
