/**
 * What somebody looks like: a pose of head and hands becomes shapes.
 *
 * - Where a headset sees no body there is one all the same: under the head, turned where the head has looked for a while.
 * - Hands that are not tracked hang beside the body, and make the movements of a gesture.
 * - A name always has the same colour, in every client of this kind.
 */

import { fromEuler, multiply, rotate } from './maths.js';
import { GESTURE_S } from './phrases.js';

/** @typedef {import('./pose.js').Pose} Pose */
/** @typedef {import('./pose.js').Part} Part */
/** @typedef {{css: string, body: number[], skin: number[], eyes: number[]}} Look colours: `css` as such, the others linear */

/** Hues that are told apart at a glance, saturation and lightness to match. */
const COLOURS = [
  [352, 68, 60], [16, 76, 58], [36, 82, 54], [84, 42, 48], [146, 40, 46], [172, 52, 42],
  [194, 66, 47], [212, 68, 56], [232, 58, 62], [258, 52, 62], [286, 44, 58], [322, 54, 60],
];

/** A whole number of 32 bits for a text, the same everywhere (FNV-1a). @param {string} text */
export function hashOf(text) {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  // The lower bits of FNV are poor.
  return (hash ^ (hash >>> 15)) >>> 0;
}

/** @param {string} name @returns {Look} */
export function lookOf(name) {
  const [hue, saturation, lightness] = COLOURS[hashOf(name) % COLOURS.length];
  return {
    css: `hsl(${hue} ${saturation}% ${lightness}%)`,
    body: linear(hue, saturation, lightness),
    skin: linear(hue, saturation, 82),
    eyes: linear(hue, 90, 82),
  };
}

/** @param {number} hue @param {number} saturation @param {number} lightness */
function linear(hue, saturation, lightness) {
  const s = saturation / 100, l = lightness / 100;
  return [0, 8, 4].map((n) => {
    const k = (n + hue / 30) % 12;
    return (l - s * Math.min(l, 1 - l) * Math.max(-1, Math.min(k - 3, 9 - k, 1))) ** 2.2;
  });
}

/** In metres: half sizes of the parts, and where they are seen from the eyes, which are what a pose calls the head. */
const HEAD = { size: [0.108, 0.132, 0.122], at: [0, 0.012, 0.075] };
const VISOR = { size: [0.092, 0.052, 0.05], at: [0, 0.008, -0.022] };
const HAND = { size: [0.043, 0.034, 0.062], thumb: [0.017, 0.017, 0.034] };
const NECK_M = 0.155, BODY_M = 0.98, HALF_WIDTH_M = 0.21, HALF_DEPTH_M = 0.15;
/** A body does not reach the floor, and is never thinner than a cushion. */
const HEM_M = 0.1, LEAST_BODY_M = 0.16;
/** A head turned further than this takes the body along at once, less takes a while. */
const STIFF_RAD = 0.9, SLOW_TURN = 1.5, QUICK_TURN = 8, SETTLES_S = 3;
const HIGHEST_SHADOW_M = 4;

export class Figure {
  #yaw = NaN;
  /** @type {string | null} */
  #gesture = null;
  #gestureAt = -Infinity;
  #restlessUntil = -Infinity;
  // Used again each frame.
  #at = [0, 0, 0];
  #upright = [0, 0, 0, 1];
  #turn = [0, 0, 0, 1];

  /** @param {string} name */
  constructor(name) {
    this.look = lookOf(name);
  }

  /** @param {string} gesture @param {number} now seconds */
  gesture(gesture, now) {
    this.#gesture = gesture;
    this.#gestureAt = now;
  }

  /** Is it moving by itself? @param {number} now */
  lively(now) {
    return now - this.#gestureAt < GESTURE_S || now < this.#restlessUntil;
  }

  /** The pose has changed: the body follows for a while. @param {number} now */
  restless(now) {
    this.#restlessUntil = now + SETTLES_S;
  }

  /**
   * @param {import('./renderer.js').Scene} scene
   * @param {Pose} pose
   * @param {number} now
   * @param {number} passed seconds since the last frame
   * @param {boolean} still people who look do not want things to move by themselves
   */
  draw(scene, { head, left, right }, now, passed, still) {
    const { look } = this;
    this.#part(scene.ball, head, HEAD, look.skin, 0);
    this.#part(scene.block, head, VISOR, look.eyes, 1);

    rotate(this.#at, head.quat, HEAD.at);
    const [x, z] = [head.pos[0] + this.#at[0], head.pos[2] + this.#at[2]];
    const shoulders = head.pos[1] - NECK_M;
    const height = Math.max(LEAST_BODY_M, Math.min(BODY_M, shoulders - HEM_M));
    const yaw = this.#turnTowards(head.quat, passed);
    fromEuler(this.#upright, 0, yaw, 0);
    scene.body.push(x, shoulders - height / 2, z, ...this.#upright, HALF_WIDTH_M, height / 2, HALF_DEPTH_M, ...look.body, 0);
    if (shoulders > -HEM_M && shoulders < HIGHEST_SHADOW_M) scene.shadows.push(x, 0, z, 0.46);

    const age = now - this.#gestureAt;
    const gesture = age < GESTURE_S && !still ? this.#gesture : null;
    if (left) drawHand(scene, left.pos, left.quat, look.skin, -1);
    else this.#freeHand(scene, -1, [x, shoulders, z], gesture, age);
    if (right) drawHand(scene, right.pos, right.quat, look.skin, 1);
    else this.#freeHand(scene, 1, [x, shoulders, z], gesture, age);
  }

  /** @param {import('./renderer.js').Instances} into @param {Part} head @param {{size: number[], at: number[]}} part @param {number[]} colour @param {number} kind */
  #part(into, head, { size, at }, colour, kind) {
    rotate(this.#at, head.quat, at);
    for (let i = 0; i < 3; i++) this.#at[i] += head.pos[i];
    into.push(...this.#at, ...head.quat, ...size, ...colour, kind);
  }

  /** The body's yaw. @param {number[]} quat of the head @param {number} passed */
  #turnTowards(quat, passed) {
    rotate(this.#at, quat, [0, 0, -1]);
    // Straight up or down there is no direction: keep the one there was.
    if (Math.hypot(this.#at[0], this.#at[2]) < 0.1) return Number.isNaN(this.#yaw) ? 0 : this.#yaw;
    const wanted = Math.atan2(-this.#at[0], -this.#at[2]);
    if (Number.isNaN(this.#yaw)) this.#yaw = wanted;
    const off = Math.atan2(Math.sin(wanted - this.#yaw), Math.cos(wanted - this.#yaw));
    const speed = Math.abs(off) > STIFF_RAD ? QUICK_TURN : SLOW_TURN;
    this.#yaw += off * (1 - Math.exp(-speed * passed));
    return this.#yaw;
  }

  /** @param {import('./renderer.js').Scene} scene @param {number} side @param {number[]} shoulders @param {string | null} gesture @param {number} age */
  #freeHand(scene, side, shoulders, gesture, age) {
    // In the body's own directions: beside the hips, fingers down.
    let place = [side * 0.27, -0.46, -0.04];
    let angles = [-1.35, 0, side * 0.12];
    const swing = Math.sin(age * 9);
    if (gesture === 'wave' && side > 0) {
      place = [0.33 + 0.05 * swing, 0.2, -0.16];
      angles = [1.4, 0, -0.4 * swing];
    } else if (gesture === 'clap') {
      place = [side * (0.045 + 0.07 * Math.abs(Math.sin(age * 8))), -0.13, -0.32];
      angles = [0.7, 0, side * 1.45];
    } else if (gesture === 'thumbs' && side > 0) {
      place = [0.2, -0.1, -0.34];
      angles = [0, 0, -1.57];
    } else if (gesture === 'heart') {
      place = [side * 0.05, -0.12 + 0.012 * swing, -0.28];
      angles = [1.0, side * 0.5, side * 0.9];
    }
    rotate(this.#at, this.#upright, place);
    for (let i = 0; i < 3; i++) this.#at[i] += shoulders[i];
    fromEuler(this.#turn, angles[0], angles[1], angles[2]);
    multiply(this.#turn, this.#upright, this.#turn);
    drawHand(scene, this.#at, this.#turn, this.look.skin, side);
  }
}

const thumb = [0, 0, 0];

/** A mitten. @param {import('./renderer.js').Scene} scene @param {number[]} pos @param {number[]} quat @param {number[]} colour @param {number} side -1: left */
export function drawHand(scene, pos, quat, colour, side) {
  scene.ball.push(...pos, ...quat, ...HAND.size, ...colour, 0);
  rotate(thumb, quat, [-side * 0.045, 0.012, -0.008]);
  for (let i = 0; i < 3; i++) thumb[i] += pos[i];
  scene.ball.push(...thumb, ...quat, ...HAND.thumb, ...colour, 0);
}
