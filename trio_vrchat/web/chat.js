/**
 * What was said, as a list, and the line in which one writes.
 *
 * - What somebody wrote is text: `textContent` only, never markup.
 * - The list is bounded as the room's log is. It follows the newest line, unless somebody has scrolled up to read.
 * - People who come or go one after the other share a line.
 * - What is history, or already there when one comes in, is not read aloud; what is new is (a live region).
 */

import { lookOf } from './figure.js';
import { PHRASES, wordsOf } from './phrases.js';
import { LOG_LIMIT } from './room.js';

const TIME = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit' });
const AT_THE_END_PX = 30;
const NAMES_A_LINE = 8;

/** @typedef {import('./room.js').Line} Line */

/** A new element that says this. @param {string} tag @param {string} [text] */
export function element(tag, text) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  return made;
}

export class Chat {
  /** What scrolls, and the list in it. */
  #log = /** @type {HTMLElement} */ (document.getElementById('log'));
  #lines = /** @type {HTMLElement} */ (document.getElementById('lines'));
  #text = /** @type {HTMLInputElement} */ (document.getElementById('text'));
  /** The line of those who came, or who left, last. @type {{type: string, item: HTMLElement, names: number} | null} */
  #crowd = null;

  /**
   * @param {(type: string, data: string) => boolean} say
   * @param {() => void} done somebody has written all they want, and goes back to the room
   */
  constructor(say, done) {
    const form = /** @type {HTMLFormElement} */ (document.getElementById('say'));
    form.addEventListener('submit', (event) => {
      event.preventDefault();
      // Half of a surrogate pair is no text, and the server takes none.
      const text = this.#text.value.replace(/\p{Surrogate}/gu, '').trim();
      if (text === '') done();
      else if (say('msg', text)) this.#text.value = '';
    });
    this.#text.addEventListener('keydown', (event) => {
      if (event.key === 'Escape') done();
    });
    const group = /** @type {HTMLElement} */ (document.getElementById('phrases'));
    for (const [i, { type, data, sign, label }] of PHRASES.entries()) {
      const button = element('button', sign);
      button.className = type === 'emote' ? 'chip sign' : 'chip';
      button.setAttribute('aria-label', label);
      button.title = `${label} – key ${i + 1}`;
      button.addEventListener('click', () => say(type, data));
      group.append(button);
    }
  }

  write() {
    this.#text.focus();
  }

  /** Another room, or back in it: its log, all of it. @param {Line[]} lines */
  show(lines) {
    this.#log.setAttribute('aria-live', 'off');
    this.#lines.replaceChildren();
    this.add(lines);
    this.#log.scrollTop = this.#log.scrollHeight;
    this.#log.setAttribute('aria-live', 'polite');
  }

  /** @param {Line[]} lines */
  add(lines) {
    const [log, list] = [this.#log, this.#lines];
    const follows = log.scrollHeight - log.scrollTop - log.clientHeight < AT_THE_END_PX;
    for (const line of lines) {
      const said = wordsOf(line.type, line.data);
      if (said !== '' && !this.#joinsCrowd(line)) list.append(this.#line(line, said));
    }
    while (list.childElementCount > LOG_LIMIT) list.firstElementChild?.remove();
    if (follows) log.scrollTop = log.scrollHeight;
  }

  /** Whether the last line has this one, too. @param {Line} line */
  #joinsCrowd({ user, type }) {
    const crowd = this.#crowd;
    if (crowd?.type !== type || crowd.item !== this.#lines.lastElementChild || crowd.names === NAMES_A_LINE) return false;
    crowd.names++;
    crowd.item.querySelector('.who')?.append(', ', name(user));
    return true;
  }

  /** @param {Line} line @param {string} said */
  #line({ time, user, type }, said) {
    const item = element('li');
    const when = new Date(time * 1000);
    const clock = element('time', TIME.format(when));
    clock.setAttribute('datetime', when.toISOString());
    clock.title = when.toLocaleString();
    const who = element('span'), what = element('span', said);
    who.className = 'who';
    who.append(name(user));
    what.className = 'what';
    what.dir = 'auto';
    item.append(clock, who, ' ', what);
    if (type !== 'msg') item.className = 'note';
    this.#crowd = type === 'join' || type === 'leave' ? { type, item, names: 1 } : null;
    return item;
  }
}

/** @param {string} user */
function name(user) {
  const made = element('b', user);
  // A name from right to left turns nothing around but itself.
  made.dir = 'auto';
  made.style.setProperty('--colour', lookOf(user).css);
  return made;
}
