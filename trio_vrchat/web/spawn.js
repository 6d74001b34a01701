/**
 * Where somebody stands who has not moved yet: on rings around the middle, looking there, and not in anybody.
 *
 * The first place that is tried follows from the name alone, so that those who have sent no transform yet (a bot, or a client without a
 * body) are shown apart from each other, and at the same place by everybody.
 */

import { hashOf } from './figure.js';

const FIRST_RADIUS_M = 2, STEP_M = 0.12, TRIES = 40;
/** The turn from one try to the next: no two of them are near each other. */
const GOLDEN_ANGLE = 2.39996;
/** An arm's length between two people. */
const APART_M = 1.1;
/** The eyes of somebody who stands, where no headset says better. */
export const EYES_M = 1.6;

/** @typedef {{x: number, z: number, yaw: number}} Place */

/** @param {string} name @param {{x: number, z: number}[]} [others] @returns {Place} */
export function spawnOf(name, others = []) {
  const start = (hashOf(name) / 2 ** 32) * 2 * Math.PI;
  let best = place(start, 0), widest = -1;
  for (let i = 0; i < TRIES; i++) {
    const here = place(start, i);
    const room = others.reduce((least, { x, z }) => Math.min(least, Math.hypot(x - here.x, z - here.z)), Infinity);
    if (room >= APART_M) return here;
    if (room > widest) [best, widest] = [here, room];
  }
  return best;
}

/** @param {number} start @param {number} i @returns {Place} */
function place(start, i) {
  const angle = start + i * GOLDEN_ANGLE, radius = FIRST_RADIUS_M + i * STEP_M;
  const [x, z] = [Math.sin(angle) * radius, Math.cos(angle) * radius];
  return { x, z, yaw: Math.atan2(x, z) };
}
