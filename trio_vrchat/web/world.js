/**
 * The people of the room as they are drawn now: where playback has them, what hangs over their heads.
 *
 * - Who is in the room is the room's business (room.js); this follows it. Ourselves are not drawn, our hands are in a headset.
 * - Nobody is drawn nearer than `PERSONAL_M` to the eyes that look: standing in each other is what people like least.
 * - Numbers are bounded: the nearest `DRAWN_LIMIT` people are drawn, each with one bubble at a time.
 * - Names and bubbles lie flat on a screen; in a headset they face the head, not each of its eyes. They keep the size at which they can be
 *   read, within limits.
 */

import { Figure } from './figure.js';
import { distance, fromEuler } from './maths.js';
import { GESTURE_S } from './phrases.js';
import { Playback } from './playback.js';
import { newPose } from './pose.js';
import { EYES_M, spawnOf } from './spawn.js';

/** @typedef {import('./pose.js').Pose} Pose */

export const PERSONAL_M = 0.3;
const DRAWN_LIMIT = 250;
/** So long is a bubble read, and for each of its characters longer. In seconds. */
const BUBBLE_S = 4, BUBBLE_S_EACH = 0.06, BUBBLE_LIMIT_S = 12, FADE_S = 0.4;
/** Height of a name by its distance, and its limits in metres. */
const NAME_SIZE = 0.047, NAME_LEAST_M = 0.075, NAME_MOST_M = 0.7;
/** Further away names would cover everything. */
const NAME_FADE_M = 25, NAME_GONE_M = 32;

class Avatar {
  playback = new Playback();
  /** @type {Pose} where they are drawn */
  pose = newPose();
  bubble = '';
  bubbleAt = -Infinity;
  bubbleUntil = -Infinity;
  distance = 0;
  #moved = 0;

  /** @param {string} name */
  constructor(name) {
    this.name = name;
    this.figure = new Figure(name);
    const { x, z, yaw } = spawnOf(name);
    this.pose.head.pos = [x, EYES_M, z];
    fromEuler(this.pose.head.quat, 0, yaw, 0);
  }

  /** Whether it differs from the last frame. @param {number} serverNow @param {number[]} eyes */
  advance(serverNow, eyes) {
    this.pose = this.playback.pose(serverNow) ?? this.pose;
    this.distance = distance(this.pose.head.pos, eyes);
    let sum = 0;
    for (const part of [this.pose.head, this.pose.left, this.pose.right]) {
      if (part) for (const number of part.pos.concat(part.quat)) sum = sum * 1.7 + number;
    }
    const moved = Math.abs(sum - this.#moved) > 1e-4;
    if (moved) this.#moved = sum;
    return moved;
  }
}

export class World {
  /** @type {Map<string, Avatar>} by name, without us */
  #avatars = new Map();
  /** Has something changed that is not a movement? */
  #changed = true;

  /** The room has these members. @param {Iterable<string>} names @param {string} us */
  follow(names, us) {
    const others = new Set(names);
    others.delete(us);
    for (const name of this.#avatars.keys()) if (!others.has(name)) this.#avatars.delete(name);
    for (const name of others) if (!this.#avatars.has(name)) this.#avatars.set(name, new Avatar(name));
    this.#changed = true;
  }

  /** Another room: nobody of the last one is here. */
  clear() {
    this.#avatars.clear();
    this.#changed = true;
  }

  /** @param {import('./room.js').Entry} entry @param {number} serverNow */
  moved({ user, time, data }, serverNow) {
    this.#avatars.get(user)?.playback.add(data, time, serverNow);
  }

  /** @param {string} user @param {string} text what hangs over their head @param {string | null} gesture @param {number} now */
  said(user, text, gesture, now) {
    const avatar = this.#avatars.get(user);
    if (avatar === undefined) return;
    avatar.bubble = text;
    avatar.bubbleAt = now;
    avatar.bubbleUntil = now + (gesture ? GESTURE_S : Math.min(BUBBLE_LIMIT_S, BUBBLE_S + BUBBLE_S_EACH * text.length));
    if (gesture) avatar.figure.gesture(gesture, now);
  }

  /** Where somebody else is drawn, or undefined. @param {string} name */
  poseOf(name) {
    return this.#avatars.get(name)?.pose;
  }

  /** Where people stand, ourselves not counted. */
  places() {
    return [...this.#avatars.values()].map(({ pose }) => ({ x: pose.head.pos[0], z: pose.head.pos[2] }));
  }

  /** Everybody goes on to this moment. Whether anything looks different. @param {number} serverNow @param {number} now @param {number[]} eyes */
  advance(serverNow, now, eyes) {
    let changed = this.#changed;
    this.#changed = false;
    for (const avatar of this.#avatars.values()) {
      const moved = avatar.advance(serverNow, eyes);
      // A body turns on after its head has turned.
      if (moved) avatar.figure.restless(now);
      changed = avatar.figure.lively(now) || now < avatar.bubbleUntil + 0.1 || changed;
    }
    return changed;
  }

  /**
   * @param {import('./renderer.js').Scene} scene is filled
   * @param {import('./atlas.js').Atlas} atlas
   * @param {number[]} eyes the middle between the eyes that look
   * @param {number[] | null} screen how the screen is turned, where it is one
   * @param {number} now
   * @param {number} passed
   * @param {boolean} still
   */
  draw(scene, atlas, eyes, screen, now, passed, still) {
    const nearest = [...this.#avatars.values()].sort((a, b) => a.distance - b.distance).slice(0, DRAWN_LIMIT);
    const drawn = nearest.filter(({ distance }) => distance >= PERSONAL_M);
    for (const avatar of drawn) avatar.figure.draw(scene, avatar.pose, now, passed, still);
    // Nearest first for a place in the atlas, furthest first on the screen.
    const written = drawn.map((avatar) => ({
      avatar,
      name: avatar.distance < NAME_GONE_M ? atlas.name(avatar.name, avatar.figure.look.css) : undefined,
      bubble: now < avatar.bubbleUntil ? atlas.bubble(avatar.bubble) : undefined,
    }));
    for (const { avatar, name, bubble } of written.reverse()) {
      const height = Math.max(NAME_LEAST_M, Math.min(NAME_MOST_M, NAME_SIZE * avatar.distance));
      const [x, y, z] = avatar.pose.head.pos;
      const at = [x, y + 0.2 + height / 2, z];
      const quat = screen ?? facing(at, eyes);
      const far = 1 - Math.max(0, (avatar.distance - NAME_FADE_M) / (NAME_GONE_M - NAME_FADE_M));
      if (name) scene.labels.push(...at, ...quat, height * name.aspect, height, far, ...name.part);
      if (bubble) {
        const share = Math.min(1, (now - avatar.bubbleAt) / FADE_S, (avatar.bubbleUntil - now) / FADE_S);
        const tall = height * 2.2;
        at[1] += height / 2 + tall / 2;
        scene.labels.push(...at, ...quat, tall * bubble.aspect, tall, share, ...bubble.part);
      }
    }
  }
}

const turn = [0, 0, 0, 1];

/** The rotation that turns a picture's front from one point to another. @param {number[]} from @param {number[]} to */
export function facing(from, to) {
  const [x, y, z] = [to[0] - from[0], to[1] - from[1], to[2] - from[2]];
  return fromEuler(turn, -Math.atan2(y, Math.hypot(x, z)), Math.atan2(x, z), 0);
}
