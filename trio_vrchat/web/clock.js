/**
 * What time it is on the server: an estimate from pings, with a bound of its error.
 *
 * Theory of operation. A ping leaves at local time a and its answer, which holds the server's time s, comes back at b.
 * Whatever the way there and back took, s was read between a and b: the offset of the server's clock to the local one is
 * s - (a + b) / 2, give or take (b - a) / 2. That is a hard bound, not a guess, and the shortest round trip has the narrowest.
 *
 * - Of the last `WINDOW` answers the one with the narrowest bound counts. Clocks drift apart, so a bound widens with its age; an old
 *   answer, however good it was, gives way to a newer one in the end.
 * - Two bounds that do not overlap cannot both be true: one of the clocks was set, or stood still (a laptop slept, a phone stopped
 *   the page, the server was restarted). The newer answer is true; whatever contradicts it is forgotten.
 * - A better estimate is not a reason for the time to jump: `now` moves to it slowly, except where it is off by more than `STEP_S`.
 *   So a sender's capture times, and a receiver's playback, do not stutter when an estimate improves.
 *
 * All times are seconds. A local time is `performance.now() / 1000`, and is always an argument: nothing here reads a clock or sets a
 * timer. What the server says is not trusted to be a number.
 */

/** Answers that are kept: at one ping in 5 s the last 80 s. */
const WINDOW = 16;
/** Pings whose answer may be outstanding; one that is lost with its connection is pushed out by later ones. */
const OUTSTANDING = 8;
/** How fast two clocks may drift apart. Crystals are good for 50 parts in a million each. */
const DRIFT = 100e-6;
/** The first pings come quickly, so that one of them finds the network idle, the later ones seldom. */
const QUICK_PINGS = 5, QUICK_INTERVAL_S = 0.25, INTERVAL_S = 5;
/** How fast `now` moves to a better estimate: 5 ms in a second, which distorts the speed of what is timed by 0.5 %. */
const SLEW = 0.005;
/** An error that `now` would take too long to work off, and that is no longer hidden by doing it slowly. */
const STEP_S = 0.2;

/** @typedef {{offset: number, bound: number, at: number}} Answer offset and bound in seconds, as found at local time `at` */

export class ServerClock {
  /** @type {Map<number, number>} echo → the local time at which its ping left */
  #outstanding = new Map();
  /** @type {Answer[]} oldest first */
  #answers = [];
  #echoes = 0;
  /** Pings since it was last found out quickly. */
  #pings = 0;
  #lastPing = -Infinity;
  // `now` is local + #offset + what is still to be worked off of #correction, which began at #correctedAt.
  #offset = NaN;
  #correction = 0;
  #correctedAt = 0;

  /** Is there an estimate? */
  get ready() {
    return this.#answers.length > 0;
  }

  /** Whether it is time for the next ping. @param {number} localNow */
  due(localNow) {
    const interval = this.#pings < QUICK_PINGS ? QUICK_INTERVAL_S : INTERVAL_S;
    return !(localNow - this.#lastPing < interval);
  }

  /** A connection is new: measure quickly again. What was measured stays, until an answer contradicts it. */
  reconnected() {
    this.#outstanding.clear();
    this.#measureQuickly();
  }

  /**
   * A ping leaves now. Returns what to send as its `options.echo`: a number that no other ping has.
   * @param {number} localNow
   */
  sent(localNow) {
    const echo = ++this.#echoes;
    this.#pings++;
    this.#lastPing = localNow;
    this.#outstanding.set(echo, localNow);
    for (const oldest of this.#outstanding.keys()) {
      if (this.#outstanding.size <= OUTSTANDING) break;
      this.#outstanding.delete(oldest);
    }
    return echo;
  }

  /**
   * An answer has come. Returns whether it told us anything.
   * @param {unknown} echo `detail.echo`
   * @param {unknown} serverTime `response.time`
   * @param {number} localNow when it came
   */
  answered(echo, serverTime, localNow) {
    const left = this.#outstanding.get(/** @type {number} */ (echo));
    if (left === undefined) return false;
    this.#outstanding.delete(/** @type {number} */ (echo));
    if (typeof serverTime !== 'number' || !Number.isFinite(serverTime) || !(localNow >= left)) return false;
    const answer = { offset: serverTime - (left + localNow) / 2, bound: (localNow - left) / 2, at: localNow };
    const agreeing = this.#answers.filter(
      (other) => Math.abs(other.offset - answer.offset) <= answer.bound + bound(other, localNow),
    );
    // A clock was set: find out quickly by how much.
    if (agreeing.length < this.#answers.length) this.#measureQuickly();
    this.#answers = [...agreeing, answer].slice(-WINDOW);
    this.#moveTo(this.#best(localNow).offset, localNow);
    return true;
  }

  /** The server's time; NaN before the first answer. @param {number} localNow */
  now(localNow) {
    return localNow + this.#offset + this.#left(localNow);
  }

  /** How far `now` may be off, in seconds: half of a round trip and what may have drifted since. @param {number} localNow */
  errorBound(localNow) {
    if (!this.ready) return Infinity;
    return bound(this.#best(localNow), localNow) + Math.abs(this.#left(localNow));
  }

  /** What to add to a local time, in seconds; NaN before the first answer. @param {number} localNow */
  offset(localNow) {
    return this.#offset + this.#left(localNow);
  }

  #measureQuickly() {
    this.#pings = 0;
    this.#lastPing = -Infinity;
  }

  /** @param {number} localNow */
  #best(localNow) {
    return this.#answers.reduce((best, other) => (bound(other, localNow) < bound(best, localNow) ? other : best));
  }

  /** What is still to be worked off. @param {number} localNow */
  #left(localNow) {
    const done = Math.max(0, localNow - this.#correctedAt) * SLEW;
    return Math.sign(this.#correction) * Math.max(0, Math.abs(this.#correction) - done);
  }

  /** @param {number} offset @param {number} localNow */
  #moveTo(offset, localNow) {
    const correction = this.offset(localNow) - offset;
    this.#offset = offset;
    this.#correctedAt = localNow;
    // NaN at the first answer: there is nothing to come from.
    this.#correction = Math.abs(correction) < STEP_S ? correction : 0;
  }
}

/** @param {Answer} answer @param {number} localNow */
function bound(answer, localNow) {
  return answer.bound + Math.max(0, localNow - answer.at) * DRIFT;
}
