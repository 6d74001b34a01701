/**
 * Being connected, and coming back: one user, over any number of WebSockets.
 *
 *     connect ─▶ login ─▶ in ─▶ lost ─▶ pause ─▶ connect ─▶ resume, or login ─▶ in …
 *
 * - A lost connection is no end (README, "Coming back"). The ends are: `close`, another connection of the same user (4009: two that
 *   came back by themselves would take the place from each other for ever), a login that is refused, and a first try that failed.
 * - One socket counts at a time; whatever an older one still brings is not heard.
 * - System requests are answered in the order in which they were made, so that their answers need no number. An error to a room message
 *   has `detail.room`.
 * - A socket that stands still is given up without a close frame, which would give up our place, too. It is closed when we are in again.
 * - Pauses double and are random from nothing to their limit, so that the people of a restarted server do not come back all at once.
 *
 * Knows no document: sockets, time and chance are arguments.
 */

const FIRST_PAUSE_S = 0.5;
/** Well within the 30 s for which a server keeps a place. */
const LONGEST_PAUSE_S = 10;
const LONGEST_RETRY_AFTER_S = 60;
/** A connection that held so long was a good one: the next pause is a first one again. */
const STEADY_S = 10;
/** Connecting, and a server that hashes the passwords of everybody who comes back with us. */
const ATTEMPT_S = 20;
/** A clock drifts by a millisecond in such a time. */
const CLOCK_EVERY_S = 30;
/** No answer to anything for so long: the network is gone, whatever the socket says. */
const SILENCE_S = 12;
const REPLACED = 4009;
/** Refusals that say nothing about us: the same request may do later. */
const NOT_NOW = new Set([429, 500, 503]);

/** @typedef {import('./words.js').Response} Response */
/**
 * @typedef {object} Environment
 * @property {(url: string) => WebSocket} open
 * @property {() => number} now seconds
 * @property {() => number} wallClock seconds since the Unix epoch, as this machine has them
 * @property {(callback: () => void, seconds: number) => any} later
 * @property {(timer: any) => void} cancel
 * @property {() => number} random
 */
/**
 * @typedef {object} Granted
 * @property {string} user what rooms call us
 * @property {boolean} admin
 * @property {number} time
 * @property {boolean} kept the server goes on where we were
 * @property {string[]} inside the rooms that it has us in
 */
/**
 * What is told, each at once: `granted` before anything of a room, `lost` with the seconds until the next try, `ended` once.
 * @typedef {object} Listener
 * @property {(granted: Granted) => void} granted
 * @property {(seconds: number) => void} lost
 * @property {(why: {code?: number, response?: Response, unreachable?: boolean}) => void} ended
 * @property {(room: string, entries: any[]) => void} heard
 * @property {(response: Response) => void} refused
 */

/** @type {Environment} */
export const BROWSER = {
  open: (url) => new WebSocket(url),
  now: () => performance.now() / 1000,
  wallClock: () => Date.now() / 1000,
  later: (callback, seconds) => setTimeout(callback, seconds * 1000),
  cancel: (timer) => clearTimeout(timer),
  random: Math.random,
};

export class Connection {
  #url;
  #login;
  #seen;
  #clock;
  /** @type {Listener} */
  #listener;
  #environment;
  /** @type {WebSocket | null} */
  #socket = null;
  /** @type {WebSocket | null} the one that was given up and is still to be closed */
  #abandoned = null;
  /** @type {{answered: (response: Response) => void, at: number}[]} one for each request that waits for its answer */
  #requests = [];
  /** @type {string | null} */
  #session = null;
  /** @type {any} */
  #timer;
  #pause = FIRST_PAUSE_S;
  #since = 0;
  #clockSaidAt = -Infinity;
  #wasIn = false;
  #ended = false;
  /** Are we in, so that what is sent is heard? */
  isIn = false;

  /**
   * @param {string} url
   * @param {{user: string, pass: string}} login
   * @param {object} parts
   * @param {() => Record<string, number>} parts.seen the time of the last event of each room that is to be resumed
   * @param {import('./clock.js').ServerClock} parts.clock
   * @param {Listener} parts.listener
   * @param {Environment} [parts.environment]
   */
  constructor(url, login, { seen, clock, listener, environment = BROWSER }) {
    this.#url = url;
    this.#login = { ...login, resume: true };
    this.#seen = seen;
    this.#clock = clock;
    this.#listener = listener;
    this.#environment = environment;
    this.#connect();
  }

  /** Say goodbye: the server gives our place up at once. */
  close() {
    this.#end();
  }

  /** Nothing is kept for later: false where it could not be sent. @param {object} message */
  send(message) {
    if (!this.isIn) return false;
    this.#socket?.send(JSON.stringify(message));
    return true;
  }

  /** How many bytes wait to be sent: more than a little means a network that cannot keep up. */
  get waiting() {
    return this.#socket?.bufferedAmount ?? 0;
  }

  /** @param {string} system @param {object} options @param {(response: Response) => void} answered also by an error */
  request(system, options, answered) {
    if (this.isIn) this.#ask(system, options, answered);
  }

  /** The network may be back: do not wait for the next try. */
  hurry() {
    if (this.#socket === null && !this.#ended) this.#connect();
  }

  /** Once a second or so: ping, and see whether the server still answers. */
  tick() {
    if (!this.isIn) return;
    const now = this.#environment.now();
    if (this.#requests.length > 0 && now - this.#requests[0].at > SILENCE_S) {
      this.#abandon();
      this.#lost(1006);
    } else if (this.#clock.due(now)) {
      this.#ask('ping', { echo: this.#clock.sent(now) }, ({ detail, time }) => {
        this.#clock.answered(detail?.echo, time, this.#environment.now());
      });
    } else if (this.#clock.ready && now - this.#clockSaidAt > CLOCK_EVERY_S) {
      // For a recording: how far our clock is off, as well as we know it.
      this.#clockSaidAt = now;
      const offset = this.#clock.now(now) - this.#environment.wallClock();
      this.#ask('clock', { offset, bound: this.#clock.errorBound(now) }, () => {});
    }
  }

  #connect() {
    this.#environment.cancel(this.#timer);
    const socket = this.#environment.open(this.#url);
    this.#socket = socket;
    this.#requests = [];
    socket.onopen = () => socket === this.#socket && this.#getIn();
    socket.onmessage = ({ data }) => socket === this.#socket && this.#take(data);
    socket.onclose = ({ code }) => socket === this.#socket && this.#lost(code);
    this.#timer = this.#environment.later(() => {
      this.#abandon();
      this.#lost(1006);
    }, ATTEMPT_S);
  }

  #getIn() {
    if (this.#session === null) {
      this.#ask('login', this.#login, (response) => {
        if (response.code === 202) this.#granted(response);
        else if (this.#wasIn && NOT_NOW.has(response.code)) this.#tryLater(response);
        else this.#end({ response });
      });
      return;
    }
    this.#ask('resume', { session: this.#session, seen: this.#seen() }, (response) => {
      if (response.code === 202) {
        this.#granted(response);
      } else if (NOT_NOW.has(response.code)) {
        this.#tryLater(response);
      } else {
        // Too late, or the server was restarted.
        this.#session = null;
        this.#getIn();
      }
    });
  }

  /** @param {Response} response */
  #granted({ time = 0, detail = {} }) {
    this.#environment.cancel(this.#timer);
    this.#session = detail.session ?? null;
    this.#since = this.#environment.now();
    this.isIn = this.#wasIn = true;
    this.#abandoned?.close();
    this.#abandoned = null;
    this.#clock.reconnected();
    const kept = 'complete' in detail;
    const inside = kept ? Object.keys(detail.complete) : ['lobby'];
    const admin = detail.role === 'admin';
    this.#listener.granted({ user: detail.user ?? this.#login.user, admin, time, kept, inside });
    this.tick();
  }

  /** @param {number} code */
  #lost(code) {
    this.isIn = false;
    this.#socket = null;
    this.#environment.cancel(this.#timer);
    if (code === REPLACED) return this.#end({ code });
    if (!this.#wasIn) return this.#end({ unreachable: true });
    if (this.#environment.now() - this.#since >= STEADY_S) this.#pause = FIRST_PAUSE_S;
    this.#wait(0);
  }

  /** @param {Response} response */
  #tryLater({ detail = {} }) {
    const socket = this.#socket;
    this.#socket = null;
    socket?.close();
    this.#wait(Math.min(Number(detail.retry_after) || 0, LONGEST_RETRY_AFTER_S));
  }

  /** @param {number} retryAfter */
  #wait(retryAfter) {
    const seconds = retryAfter + this.#environment.random() * this.#pause;
    this.#pause = Math.min(LONGEST_PAUSE_S, this.#pause * 2);
    // It was not steady until it holds again.
    this.#since = Infinity;
    this.#environment.cancel(this.#timer);
    this.#timer = this.#environment.later(() => this.#connect(), seconds);
    this.#listener.lost(seconds);
  }

  #abandon() {
    this.#abandoned?.close();
    this.#abandoned = this.#socket;
    this.#socket = null;
  }

  /** @param {Parameters<Listener['ended']>[0]} [why] */
  #end(why) {
    if (this.#ended) return;
    this.#ended = true;
    this.isIn = false;
    this.#environment.cancel(this.#timer);
    const socket = this.#socket;
    this.#socket = null;
    socket?.close(1000);
    this.#abandoned?.close(1000);
    if (why) this.#listener.ended(why);
  }

  /** @param {string} system @param {object} options @param {(response: Response) => void} answered */
  #ask(system, options, answered) {
    this.#requests.push({ answered, at: this.#environment.now() });
    this.#socket?.send(JSON.stringify({ system, options }));
  }

  /** @param {unknown} text */
  #take(text) {
    const message = JSON.parse(String(text));
    if (message.info === 'user') this.#listener.heard(message.room, message.payload);
    else if (message.response.detail?.room !== undefined) this.#listener.refused(message.response);
    // An answer that nobody waits for is an error to something that had no room: none of ours.
    else this.#requests.shift()?.answered(message.response);
  }
}
