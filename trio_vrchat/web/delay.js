/**
 * How far behind the server's clock somebody is played back: as little as their samples' way here allows.
 *
 * Theory of operation. A sample captured at c is here at a. To go on from the sample before it, captured at b, without a stop, playback
 * must not have come past b before a: it has to be a - b behind, which is the way (a - c) and the interval (c - b).
 * So the delay is
 *
 *     the shortest way + one and a half intervals + the jitter
 *
 * where the jitter is how much longer than the shortest way and one mean interval a - b was, in all but the worst
 * `1 - COVERED` of the recent samples. The half interval is the margin; what comes later than that is bridged by coasting
 * (playback.js). The wait for the server's next batch, a stalled connection, and a batch that was missed are all in a - b.
 *
 * A way that comes out as less than nothing, because a sender's clock is ahead, is as good as any: only differences count, and
 * playback is as far behind the capture times as it has to be, wherever these are.
 */

/** Samples that are remembered: 16 s of a walker at the usual 20 batches a second. With half of that, what a poor network does every
 * few seconds is forgotten before it does it again. */
const WINDOW = 320;
/** Samples between two sums: a quarter of a second. */
const STRIDE = 5;
const COVERED = 0.98;
/** More than this behind, a room feels broken however smooth it is. */
export const DELAY_LIMIT_S = 0.5;
/** Before there is anything to measure: batches 20 times a second, on a network that wavers by as much. */
const FIRST_INTERVAL_S = 0.05, FIRST_JITTER_S = 0.05;
/** Until then the first guess counts, too. */
const SETTLED = 10;
/** A sample that was longer under way than this is old news (what a newcomer is shown), and says nothing of the network. */
const WAY_LIMIT_S = 2, AHEAD_LIMIT_S = 1;

export class Delay {
  #ways = new Float64Array(WINDOW);
  #intervals = new Float64Array(WINDOW);
  #late = new Float64Array(WINDOW);
  #count = 0;
  /** Seconds to be behind the server's clock; NaN before the first sample. */
  seconds = NaN;
  /** The mean interval between samples, in seconds. */
  interval = FIRST_INTERVAL_S;

  /**
   * A sample has come that follows the one before it, or the first one.
   * @param {number} arrival by the server's clock
   * @param {number} captured
   * @param {number} interval since the capture of the one before; NaN where there is none
   */
  measure(arrival, captured, interval) {
    const way = arrival - captured;
    if (!(way > -AHEAD_LIMIT_S && way < WAY_LIMIT_S)) return;
    if (Number.isNaN(interval)) {
      if (this.#count === 0) this.seconds = limited(way + 1.5 * this.interval + FIRST_JITTER_S);
      return;
    }
    this.#ways[this.#count % WINDOW] = way;
    this.#intervals[this.#count % WINDOW] = interval;
    this.#count++;
    if (this.#count < 2 * STRIDE || this.#count % STRIDE === 0) this.#sum();
  }

  #sum() {
    const known = Math.min(this.#count, WINDOW);
    let shortest = Infinity;
    let sum = 0;
    for (let i = 0; i < known; i++) {
      shortest = Math.min(shortest, this.#ways[i]);
      sum += this.#intervals[i];
    }
    const guessed = Math.max(0, SETTLED - known);
    this.interval = (sum + guessed * FIRST_INTERVAL_S) / (known + guessed);
    for (let i = 0; i < known; i++) {
      this.#late[i] = Math.max(0, this.#ways[i] + this.#intervals[i] - shortest - this.interval);
    }
    const late = this.#late.subarray(0, known).sort();
    const jitter = late[Math.ceil(COVERED * known) - 1];
    this.seconds = limited(shortest + 1.5 * this.interval + (guessed ? Math.max(jitter, FIRST_JITTER_S) : jitter));
  }
}

/** @param {number} delay */
function limited(delay) {
  return Math.max(0, Math.min(DELAY_LIMIT_S, delay));
}
