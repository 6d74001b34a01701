/**
 * When one's own pose is sent, and as what.
 *
 * - At most `RATE_HZ` times a second, and only while somebody moves: the server shows a newcomer everybody's last transform, so who
 *   stands still need not say so again.
 * - After a movement the pose is sent on for `REST_S`, though it no longer changes: the server passes on only the latest sample of a
 *   batch, and the others have to see that the movement ended, not only where.
 * - What is sent holds the capture time by the server's clock in `t`, `quat` beside `rot` (Euler angles of two neighbouring poses
 *   can be far apart), and no more digits than anybody can see.
 *
 * Times are seconds, a local one `performance.now() / 1000`, and always arguments. A pose is that of pose.js.
 */

import { angleBetween, toEuler } from './maths.js';
import { way } from './pose.js';

/** @typedef {import('./pose.js').Pose} Pose */
/** @typedef {import('./pose.js').Part} Part */

/** The server's usual 20 batches a second, and half as much again, so that each batch holds a sample that is fresh. */
const RATE_HZ = 30;
/** Two batches of the slowest server that anybody would use. */
const REST_S = 0.2;
/** Below this nobody sees a movement, and a head on a neck is never stiller. */
const MOVED_M = 0.001;

export class Sender {
  /** @type {Pose | null} the last pose that was a movement */
  #rested = null;
  #due = -Infinity;
  #restsAt = -Infinity;

  /** The next pose is sent, moved or not: one has come into a room, or back. */
  again() {
    this.#rested = null;
  }

  /**
   * A frame with this pose: what to send as a transform's `data`, or null where there is nothing to send.
   * @param {Pose} pose is copied where it is kept
   * @param {number} localNow the frame's time
   * @param {number} serverNow the same by the server's clock; NaN where it is not known yet
   */
  frame(pose, localNow, serverNow) {
    if (localNow < this.#due) return null;
    if (this.#rested === null || differ(this.#rested, pose)) {
      this.#rested = structuredClone(pose);
      this.#restsAt = localNow + REST_S;
    } else if (localNow >= this.#restsAt) {
      return null;
    }
    // On a grid, so that frames that do not fit it do not lower the rate; a new one after a pause.
    const next = this.#due + 1 / RATE_HZ;
    this.#due = next > localNow ? next : localNow + 1 / RATE_HZ;
    return toData(pose, serverNow);
  }
}

/** @param {Pose} a @param {Pose} b */
function differ(a, b) {
  return way(a, b) > MOVED_M || handsDiffer(a.left, b.left) || handsDiffer(a.right, b.right);
}

/** @param {Part | null} a @param {Part | null} b */
function handsDiffer(a, b) {
  if (a === null || b === null) return a !== b;
  return angleBetween(a.quat, b.quat) > MOVED_M;
}

/**
 * A transform's `data` for a pose.
 * @param {Pose} pose
 * @param {number} captured by the server's clock; NaN: not known
 */
export function toData(pose, captured) {
  const { head, left, right } = pose;
  /** @type {Record<string, unknown>} */
  const data = toFields(head);
  if (left !== null || right !== null) {
    data.hands = { ...(left && { left: toFields(left) }), ...(right && { right: toFields(right) }) };
  }
  if (Number.isFinite(captured)) data.t = rounded(captured, 1e4);
  return data;
}

/** @param {Part} part */
function toFields({ pos, quat }) {
  const [rx, ry, rz] = toEuler([0, 0, 0], quat).map((angle) => rounded(angle, 1e4));
  const [x, y, z] = pos.map((metres) => rounded(metres, 1e4));
  const [qx, qy, qz, qw] = quat.map((part) => rounded(part, 1e5));
  return { pos: { x, y, z }, rot: { x: rx, y: ry, z: rz }, quat: { x: qx, y: qy, z: qz, w: qw } };
}

/** @param {number} value @param {number} steps to one */
function rounded(value, steps) {
  // Adding 0 makes 0 of -0.
  return Math.round(value * steps) / steps + 0;
}
