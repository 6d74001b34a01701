/**
 * People whose way is known exactly: where they are, how fast, and when they were at a place.
 *
 * A walker goes on at 1.4 m/s, straight or in a circle, as a body does: with every step the head bobs and is
 * thrown forward, with every other it sways; it looks around, and the hands swing.
 */

import { angleBetween, fromEuler, rotate } from '../../trio_vrchat/web/maths.js';

export const SPEED_M_S = 1.4;
const EYES_M = 1.65;
/** Steps a second; how far a step throws the head up, along and (every other one) aside, each from the middle. */
const STEPS_HZ = 1.9, BOB_M = 0.02, SURGE_M = 0.01, SWAY_M = 0.02;
/** Far enough from the origin for a straight walk not to begin at 0. */
const START_M = -3;
/** A small room. */
const RADIUS_M = 2;

/** @typedef {{ poseAt(time: number): any, whenAt(pos: number[], near: number): number, name: string }} Walker */

/** @param {'straight' | 'circle'} way @returns {Walker} */
export function walker(way) {
  const circle = way === 'circle';
  return {
    name: way,
    poseAt(time) {
      const bob = BOB_M * Math.sin(2 * Math.PI * STEPS_HZ * time);
      const sway = SWAY_M * Math.sin(Math.PI * STEPS_HZ * time);
      const along = SPEED_M_S * time + surge(time);
      const angle = along / RADIUS_M;
      const pos = circle
        ? [(RADIUS_M + sway) * Math.cos(angle), EYES_M + bob, (RADIUS_M + sway) * Math.sin(angle)]
        : [START_M + along, EYES_M + bob, sway];
      const heading = circle ? Math.PI - angle : -Math.PI / 2;
      const yaw = heading + 0.6 * Math.sin(1.3 * time);
      const quat = fromEuler([0, 0, 0, 1], 0.2 * Math.sin(0.9 * time), yaw, 0.03 * Math.sin(Math.PI * STEPS_HZ * time));
      return { head: { pos, quat }, left: hand(time, pos, heading, -1), right: hand(time, pos, heading, 1) };
    },
    // Along the way nobody slows down or turns back, so each place is passed at one time (on a circle: once a round).
    whenAt(pos, near) {
      let along = pos[0] - START_M;
      if (circle) {
        const round = 2 * Math.PI * RADIUS_M;
        along = Math.atan2(pos[2], pos[0]) * RADIUS_M;
        along += Math.round((near * SPEED_M_S - along) / round) * round;
      }
      let time = along / SPEED_M_S;
      // The surge is a tenth of the speed: each turn of this is exact to another digit.
      for (let i = 0; i < 12; i++) time = (along - surge(time)) / SPEED_M_S;
      return time;
    },
  };
}

/** @param {number} time */
function surge(time) {
  return SURGE_M * Math.sin(2 * Math.PI * STEPS_HZ * time + 1);
}

/** @param {number} time @param {number[]} head @param {number} heading @param {number} side */
function hand(time, head, heading, side) {
  const turn = fromEuler([0, 0, 0, 1], 0, heading, 0);
  const swing = 0.25 * Math.sin(Math.PI * STEPS_HZ * time) * side;
  const [x, y, z] = rotate([0, 0, 0], turn, [0.25 * side, -0.7 + Math.abs(swing) / 4, swing]);
  return { pos: [head[0] + x, head[1] + y, head[2] + z], quat: fromEuler([0, 0, 0, 1], swing, heading, 0) };
}

const TINY_S = 1e-5;

/** Metres a second, all that the head does. @param {Walker} walk @param {number} time */
export function speedAt(walk, time) {
  const [a, b] = [walk.poseAt(time - TINY_S), walk.poseAt(time + TINY_S)];
  return Math.hypot(...a.head.pos.map((/** @type {number} */ x, /** @type {number} */ i) => b.head.pos[i] - x)) / (2 * TINY_S);
}

/** Radians a second. @param {Walker} walk @param {number} time */
export function turnAt(walk, time) {
  const [a, b] = [walk.poseAt(time - TINY_S), walk.poseAt(time + TINY_S)];
  return angleBetween(a.head.quat, b.head.quat) / (2 * TINY_S);
}
