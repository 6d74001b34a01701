/**
 * Ways to show somebody whose samples come over a network: ours, and those that ours is measured against.
 *
 * Each has `add(entry, localNow, serverNow)`, called when an entry comes, and `pos(localNow, serverNow, delta)`, called for each frame.
 */

import { lerp, slerp } from '../../trio_vrchat/web/maths.js';
import { Playback } from '../../trio_vrchat/web/playback.js';

/** @typedef {{time: number, data: any}} Entry */

export function ours() {
  const playback = new Playback();
  return {
    playback,
    /** @param {Entry} entry @param {number} _ @param {number} serverNow */
    add: ({ data, time }, _, serverNow) => playback.add(data, time, serverNow),
    /** @param {number} _ @param {number} serverNow */
    pose: (_, serverNow) => playback.pose(serverNow),
  };
}

/** The newest sample, as soon as it is there. */
export function onArrival() {
  /** @type {any} */
  let newest = null;
  return {
    /** @param {Entry} entry */
    add: ({ data }) => (newest = part(data)),
    pose: () => newest && { head: newest },
  };
}

/**
 * What networked-aframe does (by buffered-interpolation): a sample's time is that of the frame in which it came, and one is
 * shown a fixed time later, on a line from the sample before. A last sample is drawn on into the future until another comes.
 * @param {number} bufferTime seconds
 */
export function fixedBuffer(bufferTime) {
  /** @type {{at: number, part: any}[]} */
  const buffer = [];
  /** @type {any} */
  let origin = null;
  let time = 0;
  const shown = { pos: [0, 0, 0], quat: [0, 0, 0, 1] };
  return {
    /** @param {Entry} entry */
    add({ data }) {
      // Several that come within one frame have one time: the last one counts.
      if (buffer.at(-1)?.at === time) buffer.pop();
      buffer.push({ at: time, part: part(data) });
    },
    /** @param {number} _ @param {number} __ @param {number} delta seconds since the last frame */
    pose(_, __, delta) {
      if (!origin) {
        if (!buffer.length) return null;
        origin = buffer.shift();
        lerp(shown.pos, origin.part.pos, origin.part.pos, 0);
        slerp(shown.quat, origin.part.quat, origin.part.quat, 0);
      }
      const mark = time - bufferTime;
      while (buffer.length && mark > buffer[0].at) {
        if (buffer.length > 1) {
          origin = buffer.shift();
        } else {
          origin = { at: buffer[0].at, part: buffer[0].part };
          buffer[0].at = time + delta;
        }
      }
      if (mark >= 0 && buffer.length && buffer[0].at > 0) {
        const share = (mark - origin.at) / (buffer[0].at - origin.at);
        lerp(shown.pos, origin.part.pos, buffer[0].part.pos, share);
        slerp(shown.quat, origin.part.quat, buffer[0].part.quat, share);
      }
      time += delta;
      return { head: shown };
    },
  };
}

/** @param {any} data */
function part({ pos, quat }) {
  return { pos: [pos.x, pos.y, pos.z], quat: [quat.x, quat.y, quat.z, quat.w] };
}
