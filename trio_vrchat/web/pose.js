/**
 * Where somebody's head and hands are: what a transform's `data` says, and what lies between two of them.
 *
 * - A pose has a head and, where the client tracks them, a left and a right hand; each is a place and a rotation in the room.
 * - What a stranger sent is read here and nowhere else. Whatever it was, a pose holds only finite numbers: what is missing or no number
 *   is 0, places are within `POSITION_LIMIT_M`, rotations have length 1. `quat` is believed before `rot`, if it is a rotation.
 * - A hand without a `pos` is not there. Between a pose with a hand and one without, the hand stays where it was last seen.
 * - A jump that no walker could have made is a cut: half-way through it one is still at the start, never in between.
 */

import { angleBetween, conjugate, distance, fromEuler, lerp, multiply, normalise, slerp } from './maths.js';

/** @typedef {{pos: import('./maths.js').Vector, quat: import('./maths.js').Quaternion}} Part */
/** @typedef {{head: Part, left: Part | null, right: Part | null}} Pose */

/** @type {('left' | 'right')[]} */
const HANDS = ['left', 'right'];
/** A renderer's 32 bits are a millimetre wide here. */
const POSITION_LIMIT_M = 10_000;
/** Beyond this no angle has digits left for its direction. */
const ANGLE_LIMIT = 1e6;
/** Who comes further than this at once, and than one runs in the time between, was not walking. */
const CUT_DISTANCE_M = 0.5, CUT_SPEED_M_S = 5;
/** What is guessed beyond the newest sample is at most this far off. */
const GUESS_LIMIT_M = 0.5, GUESS_LIMIT_RAD = 0.5;

/** @returns {Part} */
function newPart() {
  return { pos: [0, 0, 0], quat: [0, 0, 0, 1] };
}

/** @returns {Pose} a head in the origin, without hands */
export function newPose() {
  return { head: newPart(), left: null, right: null };
}

/**
 * What a transform's `data` says. Never fails, whatever it is given.
 * @param {unknown} data
 * @returns {Pose}
 */
export function readPose(data) {
  const fields = fieldsOf(data);
  const hands = fieldsOf(fields.hands);
  return { head: readPart(fields), left: readHand(hands.left), right: readHand(hands.right) };
}

/** @param {unknown} value @returns {Part | null} */
function readHand(value) {
  const { pos } = fieldsOf(value);
  return pos !== null && typeof pos === 'object' ? readPart(fieldsOf(value)) : null;
}

/** @param {Record<string, unknown>} fields @returns {Part} */
function readPart(fields) {
  const { x, y, z } = fieldsOf(fields.pos);
  const pos = [x, y, z].map((value) => number(value, POSITION_LIMIT_M));
  const quat = fieldsOf(fields.quat);
  const four = [quat.x, quat.y, quat.z, quat.w].map((value) => number(value, ANGLE_LIMIT));
  // Also what is nearly 0 has no direction.
  if (Math.hypot(...four) > 1e-3) return { pos, quat: normalise(four, four) };
  const rot = fieldsOf(fields.rot);
  const [pitch, yaw, roll] = [rot.x, rot.y, rot.z].map((value) => number(value, ANGLE_LIMIT));
  return { pos, quat: fromEuler([0, 0, 0, 1], pitch, yaw, roll) };
}

/** @param {unknown} value @returns {Record<string, unknown>} */
function fieldsOf(value) {
  return value !== null && typeof value === 'object' ? /** @type {Record<string, unknown>} */ (value) : {};
}

/** @param {unknown} value @param {number} limit */
function number(value, limit) {
  return typeof value === 'number' && Number.isFinite(value) ? Math.max(-limit, Math.min(limit, value)) : 0;
}

/** @param {Pose} out @param {Pose} pose */
export function copy(out, pose) {
  return between(out, pose, pose, 0);
}

/**
 * From one pose to another: straight lines, shortest arcs.
 * @param {Pose} out must be neither of the others
 * @param {Pose} a
 * @param {Pose} b
 * @param {number} share 0 gives `a`, 1 gives `b`; beyond 1 goes on, but not far
 */
export function between(out, a, b, share) {
  partBetween(out.head, a.head, b.head, share);
  for (const hand of HANDS) {
    const [from, to] = [a[hand], b[hand]];
    const known = share < 1 ? from : to;
    if (known === null) out[hand] = null;
    else partBetween((out[hand] ??= newPart()), from ?? known, to ?? known, share);
  }
  return out;
}

/** @param {Part} out @param {Part} a @param {Part} b @param {number} share */
function partBetween(out, a, b, share) {
  const beyond = share - 1;
  const path = distance(a.pos, b.pos);
  const turn = angleBetween(a.quat, b.quat);
  lerp(out.pos, a.pos, b.pos, beyond * path > GUESS_LIMIT_M ? 1 + GUESS_LIMIT_M / path : share);
  slerp(out.quat, a.quat, b.quat, beyond * turn > GUESS_LIMIT_RAD ? 1 + GUESS_LIMIT_RAD / turn : share);
}

/** Whether nobody walks from one pose to the other in that time. @param {Pose} a @param {Pose} b @param {number} seconds */
export function isCut(a, b, seconds) {
  return distance(a.head.pos, b.head.pos) > CUT_DISTANCE_M + CUT_SPEED_M_S * seconds;
}

/**
 * What leads from one pose to another, to be worked off by `shift`.
 * @param {Pose} out must be neither of the others
 * @param {Pose} from
 * @param {Pose} to
 */
export function difference(out, from, to) {
  partDifference(out.head, from.head, to.head);
  for (const hand of HANDS) {
    const [start, end] = [from[hand], to[hand]];
    if (start === null || end === null) out[hand] = null;
    else partDifference((out[hand] ??= newPart()), start, end);
  }
  return out;
}

/** @param {Part} out @param {Part} from @param {Part} to */
function partDifference(out, from, to) {
  for (let i = 0; i < 3; i++) out.pos[i] = to.pos[i] - from.pos[i];
  multiply(out.quat, to.quat, conjugate(out.quat, from.quat));
}

const NO_TURN = [0, 0, 0, 1];
const turned = [0, 0, 0, 1];

/** Adds a share of a difference to a pose. @param {Pose} pose @param {Pose} difference @param {number} share */
export function shift(pose, difference, share) {
  shiftPart(pose.head, difference.head, share);
  for (const hand of HANDS) {
    const [part, by] = [pose[hand], difference[hand]];
    if (part !== null && by !== null) shiftPart(part, by, share);
  }
}

/** @param {Part} part @param {Part} by @param {number} share */
function shiftPart(part, by, share) {
  for (let i = 0; i < 3; i++) part.pos[i] += by.pos[i] * share;
  normalise(part.quat, multiply(part.quat, slerp(turned, NO_TURN, by.quat, share), part.quat));
}

/** A turn of the head by a radian takes as long as this many metres. */
const TURN_M = 0.5;

/** How far it is from one pose to another, for whichever of the parts has the furthest way. @param {Pose} a @param {Pose} b */
export function way(a, b) {
  let furthest = Math.max(distance(a.head.pos, b.head.pos), angleBetween(a.head.quat, b.head.quat) * TURN_M);
  for (const hand of HANDS) {
    const [from, to] = [a[hand], b[hand]];
    if (from !== null && to !== null) furthest = Math.max(furthest, distance(from.pos, to.pos));
  }
  return furthest;
}
