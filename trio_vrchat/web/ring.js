/**
 * The ring of phrases around a hand in VR, and which of them the hand chooses.
 *
 * Hold the trigger (or pinch), move the hand towards a choice, let go. In the middle, let go and nothing is said. It asks for no aim and no
 * buttons, so it works alike with controllers and with bare hands.
 */

import { conjugate, rotate } from './maths.js';
import { PHRASES } from './phrases.js';

/** How far the hand has to move, and where the choices are, in metres. */
export const CHOOSE_M = 0.05, RADIUS_M = 0.13;

const offset = [0, 0, 0], back = [0, 0, 0, 1];

export class Ring {
  /** The middle, and how it is turned: it faces the head that opened it. */
  pos = [0, 0, 0];
  quat = [0, 0, 0, 1];
  /** The index of the phrase that would be said now; -1: none. */
  choice = -1;

  /** @param {number[]} pos @param {number[]} quat whose front is seen */
  constructor(pos, quat) {
    this.pos = [...pos];
    this.quat = [...quat];
  }

  /** The hand is here now. @param {number[]} pos */
  follow(pos) {
    for (let i = 0; i < 3; i++) offset[i] = pos[i] - this.pos[i];
    rotate(offset, conjugate(back, this.quat), offset);
    const [right, up] = offset;
    this.choice = -1;
    if (Math.hypot(right, up) < CHOOSE_M) return;
    const share = Math.atan2(right, up) / (2 * Math.PI);
    this.choice = Math.round(share * PHRASES.length + PHRASES.length) % PHRASES.length;
  }

  /** Where a choice is. @param {number} i @param {{pos: number[], quat: number[]}} ring @returns {number[]} */
  static place(i, { pos, quat }) {
    const angle = (i / PHRASES.length) * 2 * Math.PI;
    const at = rotate([0, 0, 0], quat, [RADIUS_M * Math.sin(angle), RADIUS_M * Math.cos(angle), 0]);
    return at.map((part, axis) => part + pos[axis]);
  }
}
