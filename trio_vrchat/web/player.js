/**
 * Plays a recording: which moment of it is shown, and what has happened up to there.
 *
 *     tick ─▶ position ─▶ what is due                (main.js shows it)
 *       └───▶ ask for the next seconds, ahead of time ─▶ answer ─▶ waiting
 *
 * - The position never goes beyond what is there: where the network is slow the recording waits, and nothing is left out.
 * - A seek forgets what waits, and asks for who was there at that moment, and where (README, "Recording a study", `playback`).
 * - An answer that was asked for before the last seek is not heard.
 * - What waits is bounded: no more is asked for than is shown within `AHEAD_S`.
 *
 * Knows no document and no clock: `now` is seconds, and rises.
 */

/** So much of it is there before it is shown, and asked for at once, in seconds of the viewer's time. */
const AHEAD_S = 3, WINDOW_S = 2;
/** As the server has it. */
const WINDOW_LIMIT_S = 20;
/** A page that was hidden has not been looked at meanwhile. */
const LONGEST_TICK_S = 0.25;
const RETRY_S = 1;

export const SPEEDS = [1, 2, 4, 8];

/** @typedef {import('./room.js').Entry} Entry */
/** @typedef {{number: number, name: string, started: number, until: number, rooms: Record<string, number>}} Details of a recording, as the server has them */
/** @typedef {{anew: boolean, members: boolean, entries: Entry[]}} Due `anew`: what was shown before is not there any more */

export class Player {
  details;
  room;
  playing = true;
  speed = 1;
  /** Seconds since the Unix epoch, of the server that recorded. */
  position;
  /** Who is there at that moment. @type {Set<string>} */
  members = new Set();
  #ask;
  #trouble;
  /** What comes after the position, oldest first. @type {Entry[]} */
  #waiting = [];
  /** Up to when that is all there is. */
  #until = 0;
  #seeking = true;
  #anew = true;
  #asked = 0;
  /** The number of the question that is under way. @type {number | null} */
  #asking = null;
  #notBefore = -Infinity;
  #last = NaN;

  /**
   * @param {Details} details
   * @param {(options: object, answered: (response: import('./words.js').Response) => void) => void} ask a `playback` request
   * @param {(response: import('./words.js').Response) => void} trouble it was refused
   */
  constructor(details, ask, trouble) {
    this.details = details;
    this.#ask = ask;
    this.#trouble = trouble;
    this.position = details.started;
    // Where most people were.
    const rooms = Object.entries(details.rooms).sort(([, a], [, b]) => b - a);
    this.room = rooms.length > 0 ? rooms[0][0] : '';
    this.seek(details.started);
  }

  get atTheEnd() {
    return this.position >= this.details.until;
  }

  /** @param {number} time */
  seek(time) {
    this.position = Math.max(this.details.started, Math.min(this.details.until, time));
    this.#until = this.position;
    this.#waiting = [];
    this.members = new Set();
    this.#seeking = this.#anew = true;
    this.#asking = null;
    this.#notBefore = -Infinity;
  }

  /** Another room, at the same moment. @param {string} room */
  turn(room) {
    this.room = room;
    this.seek(this.position);
  }

  /** From the start where it has ended. */
  toggle() {
    this.playing = !this.playing;
    if (this.playing && this.atTheEnd) this.seek(this.details.started);
  }

  /** Go on to this moment. @param {number} now @returns {Due} */
  tick(now) {
    const passed = Math.min(LONGEST_TICK_S, now - this.#last);
    this.#last = now;
    if (this.playing && passed > 0) this.position = Math.min(this.#until, this.position + passed * this.speed);
    if (this.atTheEnd && !this.#seeking) this.playing = false;
    this.#fetch(now);
    const due = this.#waiting.findIndex(({ time }) => time > this.position);
    const entries = this.#waiting.splice(0, due < 0 ? this.#waiting.length : due);
    const anew = this.#anew && !this.#seeking;
    if (anew) this.#anew = false;
    let members = anew;
    for (const { type, user } of entries) {
      if (type === 'join') this.members.add(user);
      else if (type === 'leave') this.members.delete(user);
      else continue;
      members = true;
    }
    return { anew, members, entries };
  }

  /** @param {number} now */
  #fetch(now) {
    const enough = this.#until - this.position >= AHEAD_S * this.speed || this.#until >= this.details.until;
    if (this.#asking !== null || now < this.#notBefore || (enough && !this.#seeking)) return;
    const question = (this.#asking = ++this.#asked);
    const { number, until } = this.details;
    const seconds = Math.min(WINDOW_LIMIT_S, WINDOW_S * this.speed);
    this.#ask({ number, room: this.room, time: this.#until, seconds, seek: this.#seeking }, (response) => {
      if (question !== this.#asking) return;
      this.#asking = null;
      if (response.code !== 200) {
        this.#notBefore = now + Math.max(RETRY_S, Number(response.detail?.retry_after) || 0);
        if (response.code === 429) return;
        this.playing = false;
        this.#notBefore = Infinity;
        this.#trouble(response);
        return;
      }
      const { entries, until: reached } = /** @type {{entries: Entry[], until: number}} */ (response.detail);
      this.#waiting.push(...entries.sort((a, b) => a.time - b.time));
      this.#until = Math.min(until, reached);
      this.#seeking = false;
    });
  }
}
