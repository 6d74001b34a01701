/**
 * A room as its members are told of it: who is in it, and what was said.
 *
 * Plain state; each message of the server is taken by `take`, which returns what has changed. What it must get right:
 *
 * - A message that lists ourselves is the room's list: who is in it, all of them.
 * - What is older than our own join is history. After a lost connection a server that did not keep our place shows the history anew:
 *   what was heard before is not heard again. Who came and went meanwhile is the difference between the lists.
 * - `seen` is the time of the last event that was heard, transforms aside: a server that kept our place goes on there. The list itself
 *   shows nothing of what was said before it, and does not count.
 * - The log is bounded: the oldest lines go first.
 */

/** As many lines as somebody scrolls back; a document with more becomes slow on a phone. */
export const LOG_LIMIT = 200;

/** @typedef {{time: number, user: string, type: string, data: any}} Entry */
/** @typedef {Entry & {old: boolean}} Line a `join` or `leave`, or an application's event; `old` says that it is history */
/** @typedef {{members: boolean, lines: Line[], moved: Entry[]}} Changes */

export class Room {
  /** @type {Map<string, number>} name → when they joined, us included */
  members = new Map();
  /** @type {Map<string, Entry>} the newest transform of each that has moved */
  moved = new Map();
  /** @type {Line[]} oldest first */
  log = [];
  /** @type {number | null} */
  seen = null;
  #us;
  #joinedAt = -Infinity;
  #heardUntil = 0;

  /** @param {string} name @param {string} us what rooms call us */
  constructor(name, us) {
    this.name = name;
    this.#us = us;
  }

  /** A server lets us in again, at its time; `kept` says that it goes on where we were. @param {{user: string, time: number, kept: boolean}} granted */
  comeBack({ user, time, kept }) {
    this.#us = user;
    // Where the clock was set back the times of before say nothing about those of now.
    if (this.seen !== null) this.#heardUntil = this.seen <= time ? this.seen : 0;
    if (!kept) this.seen = null;
  }

  /** Is this message the room's list? @param {Entry[]} entries @param {string} us */
  static isList(entries, us) {
    return entries.some(({ type, user }) => type === 'join' && user === us);
  }

  /** @param {Entry[]} entries of one message @returns {Changes} */
  take(entries) {
    if (Room.isList(entries, this.#us)) return this.#welcome(entries);
    /** @type {Changes} */
    const changes = { members: false, lines: [], moved: [] };
    for (const entry of entries) {
      if (entry.type === 'transform') {
        if (this.members.has(entry.user)) {
          changes.moved.push(entry);
          this.moved.set(entry.user, entry);
        }
        continue;
      }
      if (entry.time <= this.#heardUntil) continue;
      this.seen = entry.time;
      if (entry.type === 'join') this.members.set(entry.user, entry.time);
      if (entry.type === 'leave') {
        this.members.delete(entry.user);
        this.moved.delete(entry.user);
      }
      if (entry.type === 'join' || entry.type === 'leave') changes.members = true;
      changes.lines.push({ ...entry, old: entry.time < this.#joinedAt });
    }
    this.#keep(changes.lines);
    return changes;
  }

  /** @param {Entry[]} entries @returns {Changes} */
  #welcome(entries) {
    const before = this.members;
    this.members = new Map(entries.map(({ user, time }) => [user, time]));
    for (const user of this.moved.keys()) if (!this.members.has(user)) this.moved.delete(user);
    this.#joinedAt = this.members.get(this.#us) ?? 0;
    /** @type {Line[]} */
    const lines = [];
    if (before.size > 0) {
      for (const [user, time] of before) {
        if (!this.members.has(user)) lines.push({ time, user, type: 'leave', data: '', old: false });
      }
      for (const [user, time] of this.members) {
        if (!before.has(user)) lines.push({ time, user, type: 'join', data: '', old: false });
      }
    }
    this.#keep(lines);
    return { members: true, lines, moved: [] };
  }

  /** @param {Line[]} lines */
  #keep(lines) {
    this.log.push(...lines);
    if (this.log.length > LOG_LIMIT) this.log.splice(0, this.log.length - LOG_LIMIT);
  }
}
