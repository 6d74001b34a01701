/**
 * Where we are in the room: a place on its floor and a direction, and on it a head and hands that move by themselves.
 *
 * On a screen the head is at a standing person's height and only nods; in a headset it is where the headset says, and walking and
 * turning move the floor that it stands on. So entering and leaving VR change nothing about where we are.
 */

import { fromEuler, multiply, rotate, toEuler } from './maths.js';
import { WORLD_RADIUS_M } from './scenery.js';
import { EYES_M } from './spawn.js';

/** @typedef {import('./pose.js').Part} Part */

const LOOK_LIMIT_RAD = 1.45;

export class Rig {
  x = 0;
  z = 0;
  yaw = 0;
  #pitch = 0;
  #turn = [0, 0, 0, 1];
  /** @type {import('./pose.js').Pose} our own, in the room */
  pose = { head: { pos: [0, EYES_M, 0], quat: [0, 0, 0, 1] }, left: null, right: null };

  /** Stand here, and look there. @param {import('./spawn.js').Place} place */
  place({ x, z, yaw }) {
    this.x = x;
    this.z = z;
    this.yaw = yaw;
    this.#pitch = 0;
    this.stand();
  }

  /** On a screen. @param {number} up radians to nod */
  look(up) {
    this.#pitch = Math.max(-LOOK_LIMIT_RAD, Math.min(LOOK_LIMIT_RAD, this.#pitch + up));
  }

  /** Where the head looks, around. */
  get heading() {
    return toEuler([0, 0, 0], this.pose.head.quat)[1];
  }

  /** @param {number} right metres @param {number} forward metres, both as the head looks */
  walk(right, forward) {
    const heading = this.heading, [s, c] = [Math.sin(heading), Math.cos(heading)];
    const { pos } = this.pose.head;
    const x = pos[0] + right * c - forward * s, z = pos[2] - right * s - forward * c;
    const out = Math.hypot(x, z);
    const share = out > WORLD_RADIUS_M ? WORLD_RADIUS_M / out : 1;
    this.x += x * share - pos[0];
    this.z += z * share - pos[2];
    pos[0] = x * share;
    pos[2] = z * share;
  }

  /** Around the head, wherever on the floor it is. @param {number} angle to the left */
  turn(angle) {
    const { pos } = this.pose.head;
    const [s, c] = [Math.sin(angle), Math.cos(angle)];
    const [x, z] = [this.x - pos[0], this.z - pos[2]];
    this.x = pos[0] + x * c + z * s;
    this.z = pos[2] - x * s + z * c;
    this.yaw += angle;
  }

  /** On a screen: the head is over the place where we stand. */
  stand() {
    this.pose.head.pos = [this.x, EYES_M, this.z];
    fromEuler(this.pose.head.quat, this.#pitch, this.yaw, 0);
    this.pose.left = this.pose.right = null;
  }

  /** In a headset: its head and hands, as it sees them on its floor. @param {import('./pose.js').Pose} tracked */
  wear({ head, left, right }) {
    this.pose = { head: this.toRoom(head), left: left && this.toRoom(left), right: right && this.toRoom(right) };
  }

  /** The floor of a headset is laid so that its head is where ours was. @param {Part} head */
  putOn(head) {
    const { pos } = this.pose.head;
    this.yaw = this.heading - toEuler([0, 0, 0], head.quat)[1];
    const { pos: moved } = this.toRoom({ pos: [head.pos[0], 0, head.pos[2]], quat: head.quat });
    this.x += pos[0] - moved[0];
    this.z += pos[2] - moved[2];
  }

  /** Back to the screen, where the head was last. */
  takeOff() {
    [this.x, , this.z] = this.pose.head.pos;
    this.yaw = this.heading;
    this.#pitch = 0;
    this.stand();
  }

  /** From a headset's floor to the room. @param {Part} part @returns {Part} */
  toRoom({ pos, quat }) {
    fromEuler(this.#turn, 0, this.yaw, 0);
    const placed = rotate([0, 0, 0], this.#turn, pos);
    placed[0] += this.x;
    placed[2] += this.z;
    return { pos: placed, quat: multiply([0, 0, 0, 1], this.#turn, quat) };
  }
}
