/**
 * Plays one avatar back: samples come in as the network lets them, poses go out for each frame, and move as the person did.
 *
 * Theory of operation. A sample says where somebody was at the time of its capture, by the server's clock. A *playhead* is a moment on
 * that clock, somewhat in the past; the pose shown is what lies there, between the samples before and after it. The playhead runs
 * as fast as time does, so people move as fast as they did, however unevenly their samples come. How far behind it should be,
 * delay.js says; it gets there by running a little faster or slower, too little to be seen.
 *
 * - The playhead never jumps while there is something to see. It does where nothing is lost by it: after a pause, in which
 *   nobody moved, and where it would be more than `DELAY_LIMIT_S` behind.
 * - Beyond the newest sample the avatar goes on as it moved (*coasts*) for `COAST_S`, and holds. Where nothing has come for `SETTLE_AFTER_S`
 *   more, it goes back to the newest sample: that, and no guess, is where somebody is who stands still.
 * - Where a new sample shows that a guess was wrong, or the playhead did jump, what is shown does not: the difference is worked off
 *   within `FADE_S`.
 * - Nobody slides through a teleport: what is too far for a walker (pose.js) is a cut.
 * - Who stands still sends nothing. A gap is a *pause* where its sample comes to somebody who stood, or after too long; the walk
 *   that ends it began just before its sample, and did not take the whole gap. Who walked before the gap was held up on the network,
 *   and walked through it.
 * - A capture time is the sender's word. Where it is missing, no number, not later than the one before, or not just before the server got
 *   it, the server's own time of receipt is taken. An entry that was seen is shown again to who missed a batch: it is no news.
 *
 * MUSTs: `add` is called in the order of arrival and `pose` with times that rise; all times are seconds by the server's clock
 * (clock.js), of which nothing here is read: each is an argument. The pose that is returned is overwritten by the next call.
 */

import { Delay, DELAY_LIMIT_S } from './delay.js';
import { between, copy, difference, isCut, newPose, readPose, shift, way } from './pose.js';

/** @typedef {import('./pose.js').Pose} Pose */
/** @typedef {{at: number, pose: Pose}} Sample captured at */

/** More than `DELAY_LIMIT_S` at a hundred batches a second; the oldest goes first. */
const SAMPLES_LIMIT = 64;
const COAST_S = 0.1, SETTLE_AFTER_S = 0.4, SETTLE_S = 0.25;
/** Speeds are taken over at least this long: over less, the error of the times is too large a part. */
const SPEED_OVER_S = 0.05;
/** Samples before the playhead that coasting may still need. */
const KEEP_S = 0.2;
const FADE_S = 0.25;
/** The playhead makes good this share of its distance in a second, but never runs faster or slower by more than so much. */
const GAIN = 1, FASTER = 0.06, SLOWER = 0.06;
/** From here on a gap is a pause or a hold-up: so many mean intervals, and at least so long. */
const GAP_INTERVALS = 3, GAP_S = 0.15;
/** Slower than this is standing; a walk from there is this fast; and no hold-up is longer than this. */
const STANDING_M_S = 0.3, WALK_M_S = 1.5, HOLD_UP_S = 1;
/** How long before, and by the error of two clocks after, the server received a sample it may have been captured. */
const CAPTURED_BEFORE_S = 1, CAPTURED_AFTER_S = 0.1;
/** Capture times rise by at least this. */
const STEP_S = 0.001;
/** Without a frame for so long (the page was hidden) there is nothing to go on from. */
const FRAME_LIMIT_S = 0.5;
/** A year: further from now no server has received anything, and of larger times the differences are no numbers. */
const RECEIVED_LIMIT_S = 366 * 24 * 3600;
/** The server's clock was set, or ours is wrong, if they disagree by more. */
const DISAGREE_S = 1;

export class Playback {
  /** @type {Sample[]} oldest first */
  #samples = [];
  #delay = new Delay();
  /** The server's `time` of the newest sample. */
  #received = NaN;
  #playhead = NaN;
  /** When the last frame was, and for how long the playhead has stood still. */
  #now = NaN;
  #held = 0;
  #shown = newPose();
  #scratch = newPose();
  /** What was shown less what should have been, at `#fadedFrom`. */
  #error = newPose();
  #fadedFrom = -Infinity;

  /** How far behind the server's clock the avatar should be, in seconds; NaN before the first sample. */
  get delay() {
    return this.#delay.seconds;
  }

  /** The moment that was shown last, by the server's clock; NaN before the first frame. */
  get playhead() {
    return this.#playhead;
  }

  /**
   * A transform has come.
   * @param {unknown} data the entry's `data`: `pos`, `rot` or `quat`, `hands`, `t`
   * @param {unknown} time the entry's `time`
   * @param {number} arrival now
   */
  add(data, time, arrival) {
    const received = typeof time === 'number' && Math.abs(time - arrival) < RECEIVED_LIMIT_S ? time : arrival;
    if (!Number.isFinite(received) || received === this.#received) return;
    let newest = this.#samples.at(-1);
    if (newest && newest.at - received > DISAGREE_S) {
      this.#forget();
      newest = undefined;
    }
    this.#received = received;
    const pose = readPose(data);
    const at = captureTime(data, received, newest ? newest.at : -Infinity);
    if (!newest) {
      this.#delay.measure(arrival, at, NaN);
      this.#samples.push({ at, pose });
      return;
    }
    const starved = this.#playhead > newest.at;
    if (starved) this.#withoutJump(() => this.#append(newest, at, pose, arrival));
    else this.#append(newest, at, pose, arrival);
    this.#held = 0;
  }

  /**
   * What to show now, or null before the first sample. `left` and `right` are null where there is no such hand.
   * @param {number} serverNow the time of this frame
   * @returns {Pose | null}
   */
  pose(serverNow) {
    const newest = this.#samples.at(-1);
    if (!newest) return null;
    this.#advance(newest, serverNow);
    while (this.#samples.length > 2 && this.#samples[1].at < Math.min(this.#playhead, newest.at) - KEEP_S) {
      this.#samples.shift();
    }
    return this.#show(this.#shown);
  }

  #forget() {
    this.#samples.length = 0;
    this.#delay = new Delay();
    this.#playhead = NaN;
    this.#fadedFrom = -Infinity;
  }

  /** @param {Sample} newest @param {number} at @param {Pose} pose @param {number} arrival */
  #append(newest, at, pose, arrival) {
    const gap = at - newest.at;
    if (gap > Math.max(GAP_S, GAP_INTERVALS * this.#delay.interval) && !(gap < HOLD_UP_S && this.#walks())) {
      const interval = Math.min(gap, this.#delay.interval);
      const walk = Math.min(gap, Math.max(interval, way(newest.pose, pose) / WALK_M_S));
      const began = at - (isCut(newest.pose, pose, interval) ? interval : walk);
      this.#samples.push({ at: began, pose: newest.pose });
      this.#delay.measure(arrival, at, NaN);
      if (this.#playhead > newest.at) {
        this.#playhead = Math.max(this.#playhead, Math.min(arrival - this.#delay.seconds, at));
      }
    } else {
      this.#delay.measure(arrival, at, gap);
    }
    this.#samples.push({ at, pose });
    while (this.#samples.length > SAMPLES_LIMIT) this.#samples.shift();
  }

  /** Whether the newest samples are those of somebody who moves. */
  #walks() {
    const newest = /** @type {Sample} */ (this.#samples.at(-1));
    const base = this.#base(newest);
    return base !== undefined && way(base.pose, newest.pose) > STANDING_M_S * (newest.at - base.at);
  }

  /** The sample that tells, with the newest one, how somebody moves. @param {Sample} newest */
  #base(newest) {
    const base = this.#samples.findLast((sample) => newest.at - sample.at >= SPEED_OVER_S);
    return base && !isCut(base.pose, newest.pose, newest.at - base.at) ? base : undefined;
  }

  /** @param {Sample} newest @param {number} serverNow */
  #advance(newest, serverNow) {
    const passed = serverNow - this.#now;
    const target = serverNow - this.#delay.seconds;
    this.#now = serverNow;
    // Also where one of them is NaN.
    if (!(newest.at - serverNow < DISAGREE_S) || Number.isNaN(target)) {
      this.#playhead = newest.at;
    } else if (!(passed >= 0 && passed < FRAME_LIMIT_S) || Number.isNaN(this.#playhead)) {
      this.#playhead = Math.min(target, newest.at);
    } else {
      const rate = GAIN * (target - this.#playhead - passed);
      this.#playhead += passed * (1 + Math.max(-SLOWER, Math.min(FASTER, rate)));
      if (serverNow - this.#playhead > DELAY_LIMIT_S && newest.at > this.#playhead) {
        this.#withoutJump(() => (this.#playhead = target));
      }
    }
    const settled = Math.max(0, Math.min(1, (this.#held - SETTLE_AFTER_S) / SETTLE_S));
    const end = newest.at + COAST_S * (1 - settled);
    if (this.#playhead < end) return;
    this.#playhead = end;
    if (passed > 0) this.#held += passed;
  }

  /** Whatever this changes, what is shown goes on from where it was. @param {() => void} change */
  #withoutJump(change) {
    const before = this.#show(this.#shown);
    change();
    const after = this.#at(this.#playhead, this.#scratch);
    if (isCut(before, after, 0)) {
      this.#fadedFrom = -Infinity;
      return;
    }
    difference(this.#error, after, before);
    this.#fadedFrom = this.#now;
  }

  /** @param {Pose} out */
  #show(out) {
    this.#at(this.#playhead, out);
    const faded = (this.#now - this.#fadedFrom) / FADE_S;
    if (faded >= 0 && faded < 1) shift(out, this.#error, 1 - faded * faded * (3 - 2 * faded));
    return out;
  }

  /** What lies at a moment. @param {number} moment @param {Pose} out */
  #at(moment, out) {
    const newest = /** @type {Sample} */ (this.#samples.at(-1));
    if (moment >= newest.at) {
      const base = this.#base(newest);
      if (!base) return copy(out, newest.pose);
      return between(out, base.pose, newest.pose, (moment - base.at) / (newest.at - base.at));
    }
    const next = this.#samples.findIndex((sample) => sample.at > moment);
    if (next <= 0) return copy(out, this.#samples[0].pose);
    const [a, b] = [this.#samples[next - 1], this.#samples[next]];
    if (isCut(a.pose, b.pose, b.at - a.at)) return copy(out, a.pose);
    return between(out, a.pose, b.pose, (moment - a.at) / (b.at - a.at));
  }
}

/**
 * When a sample was captured, later than `after`.
 * @param {unknown} data
 * @param {number} received
 * @param {number} after
 */
function captureTime(data, received, after) {
  const t = data !== null && typeof data === 'object' ? /** @type {{t?: unknown}} */ (data).t : undefined;
  const believed =
    typeof t === 'number' && t > received - CAPTURED_BEFORE_S && t < received + CAPTURED_AFTER_S && t > after;
  return Math.max(believed ? t : received, after + STEP_S);
}
