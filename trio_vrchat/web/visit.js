/**
 * Somebody's visit: which room they want to be in, and which rooms the server has them in.
 *
 *     go(room) ─▶ join ─▶ the room's list ─▶ we are there, and leave the others
 *                   ├──▶ refused ─▶ we stay where we are, and are told why
 *                   └──▶ not now ─▶ we stay where we are, and ask again
 *
 * - One room is shown. The server puts us into the lobby with each login, and after a lost connection may have us in others: those are
 *   left as soon as we are where we want to be, and not before, so that we always are somewhere.
 * - A room whose list has not come is not shown. Rooms are kept by name as long as we are in them: at most the one we are in, the one
 *   we go to, and the lobby.
 *
 * Knows no document.
 */

import { BROWSER, Connection } from './connection.js';
import { Room } from './room.js';
import { outOfReach, whyClosed, whyNot, whyNotIn } from './words.js';

export const LOBBY = 'lobby';
/** As the protocol has it, in characters, not in JavaScript's halves of them. */
export const USER_LIMIT = 32, ROOM_LIMIT = 64;
/** More than this waiting to be sent, and a position is left out: a newer one will do. */
const BACKLOG_BYTES = 8192;
/** A join that is refused with one of these is asked for again: too fast, or out of reach. */
const NOT_NOW = new Set([429, 503]);

/** @typedef {'connecting' | 'in' | 'lost' | 'ended'} State */
/**
 * @typedef {object} Guest
 * @property {(state: State, why: string) => void} state
 * @property {(room: Room) => void} arrived we are in this room (again)
 * @property {(room: Room, changes: import('./room.js').Changes) => void} heard
 * @property {(why: string) => void} trouble something was refused
 */

export class Visit {
  /** @type {State} */
  state = 'connecting';
  user;
  /** May we see recordings? */
  admin = false;
  /** @type {Room | null} the room we are in */
  room = null;
  /** The name of the room that we want to be in. */
  wanted;
  /** The room that is out of reach, and we have been told so. */
  #awaited = '';
  /** @type {Map<string, Room>} those whose list we have */
  #rooms = new Map();
  /** @type {Set<string>} those that the server has us in, as far as we know */
  #inside = new Set();
  #guest;
  #connection;
  #environment;

  /**
   * @param {string} url
   * @param {{user: string, pass: string}} login
   * @param {string} room
   * @param {import('./clock.js').ServerClock} clock
   * @param {Guest} guest
   * @param {import('./connection.js').Environment} [environment]
   */
  constructor(url, login, room, clock, guest, environment = BROWSER) {
    this.user = login.user;
    this.wanted = room;
    this.#guest = guest;
    this.#environment = environment;
    this.#connection = new Connection(url, login, {
      seen: () => Object.fromEntries([...this.#rooms].map(([name, { seen }]) => [name, seen ?? 0])),
      clock,
      listener: {
        granted: (granted) => this.#granted(granted),
        lost: () => this.#become('lost', 'The connection is lost. Trying to come back …'),
        ended: (why) => this.#ended(why),
        heard: (name, entries) => this.#heard(name, entries),
        refused: (response) => this.#refused(response),
      },
      environment,
    });
  }

  /** @param {string} name */
  go(name) {
    this.wanted = name;
    if (this.#connection.isIn) this.#getThere();
  }

  /** @param {string} type @param {any} data @returns {boolean} whether it was sent */
  say(type, data) {
    return this.room !== null && this.#connection.send({ room: this.room.name, type, data });
  }

  /** @param {object} data of a transform */
  move(data) {
    return this.#connection.waiting < BACKLOG_BYTES && this.say('transform', data);
  }

  /** The names of the open rooms. @param {(names: string[]) => void} listed */
  list(listed) {
    this.#connection.request('rooms', {}, ({ code, detail }) => {
      if (code === 212) listed(Object.keys(detail ?? {}));
    });
  }

  /** @param {string} system @param {object} options @param {(response: import('./words.js').Response) => void} answered */
  request(system, options, answered) {
    this.#connection.request(system, options, answered);
  }

  leave() {
    this.#connection.close();
    this.#become('ended', '');
  }

  tick() {
    this.#connection.tick();
  }

  hurry() {
    this.#connection.hurry();
  }

  /** @param {import('./connection.js').Granted} granted */
  #granted(granted) {
    this.user = granted.user;
    this.admin = granted.admin;
    this.#inside = new Set(granted.inside);
    for (const [name, room] of this.#rooms) {
      if (granted.kept && !this.#inside.has(name)) this.#rooms.delete(name);
      else room.comeBack(granted);
    }
    this.#become('in', '');
    this.#getThere();
  }

  #getThere() {
    if (!this.#inside.has(this.wanted)) {
      this.#connection.send({ room: this.wanted, type: 'join', data: '' });
    } else if (this.#rooms.has(this.wanted) && this.room?.name !== this.wanted) {
      this.#arrive(/** @type {Room} */ (this.#rooms.get(this.wanted)));
    }
  }

  /** @param {Room} room */
  #arrive(room) {
    this.room = room;
    this.#awaited = '';
    for (const name of this.#inside) {
      if (name === room.name) continue;
      this.#connection.send({ room: name, type: 'leave', data: '' });
      this.#inside.delete(name);
      this.#rooms.delete(name);
    }
    // What is left of a room that the server has us in no more.
    for (const name of this.#rooms.keys()) if (name !== room.name) this.#rooms.delete(name);
    this.#guest.arrived(room);
  }

  /** @param {string} name @param {import('./room.js').Entry[]} entries */
  #heard(name, entries) {
    const isList = Room.isList(entries, this.user);
    let room = this.#rooms.get(name);
    if (isList) {
      // Also of a join that crossed the wish to be elsewhere: it is left on arriving there.
      this.#inside.add(name);
      if (room === undefined) this.#rooms.set(name, (room = new Room(name, this.user)));
    }
    // Said before the server had our leave.
    if (room === undefined || !this.#inside.has(name)) return;
    const changes = room.take(entries);
    if (isList && name === this.wanted) this.#arrive(room);
    if (room === this.room) this.#guest.heard(room, changes);
  }

  /** @param {import('./words.js').Response} response */
  #refused(response) {
    const room = response.detail?.room;
    const ofJoin = room === this.wanted && !this.#inside.has(room) && response.code !== 401;
    if (!ofJoin) {
      // To a room that we have left, somebody may still have been on the way.
      if (room === this.room?.name && response.code !== 401) this.#guest.trouble(whyNot(response));
      return;
    }
    // 409: we are there after all, and its list comes unasked.
    if (response.code === 409) return;
    if (NOT_NOW.has(response.code)) {
      if (response.code === 503 && this.#awaited !== room) {
        this.#awaited = room;
        this.#guest.trouble(outOfReach(room));
      }
      this.#environment.later(() => this.go(this.wanted), Math.min(Number(response.detail?.retry_after) || 1, 60));
      return;
    }
    this.#guest.trouble(whyNot(response));
    const isHere = this.room !== null && this.#inside.has(this.room.name);
    const back = isHere ? this.room : this.#rooms.get(LOBBY);
    if (!back) return;
    this.wanted = back.name;
    this.#arrive(back);
  }

  /** @param {{code?: number, response?: import('./words.js').Response, unreachable?: boolean}} why */
  #ended({ code, response, unreachable }) {
    if (unreachable) this.#become('ended', 'The server cannot be reached. Is it running, and are you on its network?');
    else this.#become('ended', response ? whyNotIn(response) : whyClosed(code ?? 0));
  }

  /** @param {State} state @param {string} why */
  #become(state, why) {
    this.state = state;
    this.#guest.state(state, why);
  }
}
