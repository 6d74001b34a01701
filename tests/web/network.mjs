/**
 * A connection as TCP makes it: what is sent comes in the order sent, late, and after a loss all at once.
 *
 * Times are seconds. A *way* is one direction of one connection.
 */

import { heavyTailed, normal } from './random.mjs';

/**
 * @typedef {object} Network
 * @property {string} name
 * @property {number} latency one way, at the least
 * @property {(random: () => number) => number} jitter what comes to that
 * @property {number} loss the share of messages that are lost and sent again
 * @property {number} missed the share of batches that the server does not send, because the connection is full
 * @property {number} drift how much faster than the server's clock that of a headset runs
 */

/** A good home: a cable or Wi-Fi that nobody else uses. @type {Network} */
export const GOOD = {
  name: 'good',
  latency: 0.02,
  jitter: (random) => Math.abs(normal(random, 0.003)),
  loss: 0,
  missed: 0,
  drift: 30e-6,
};

/** Another continent, by a Wi-Fi that is full. @type {Network} */
export const POOR = {
  name: 'poor',
  latency: 0.08,
  jitter: (random) => heavyTailed(random, 0.008, 0.15),
  loss: 0.02,
  missed: 0.005,
  drift: 50e-6,
};

/** What a sender notices a loss by (the next message, 50 ms later, and its acknowledgement) as TCP's RACK does. */
const NEXT_MESSAGE_S = 0.05, REORDERING = 0.25;

/** @param {Network} network @param {() => number} random @param {number} loss */
export function way({ latency, jitter }, random, loss) {
  let last = -Infinity;
  return {
    /** When what is sent at this time comes. @param {number} time */
    arrival(time) {
      let under = latency + jitter(random);
      if (random() < loss) under += NEXT_MESSAGE_S + 2 * latency * (1 + REORDERING) + jitter(random);
      // What came later waits in the receiver's kernel.
      last = Math.max(last, time + under);
      return last;
    },
  };
}
