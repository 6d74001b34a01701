/**
 * The page around the room: the door, the bar, who is here and which rooms there are, and what there is to say about the connection.
 *
 * - What others chose (names of people and rooms) is text: `textContent` only, never markup.
 * - Lists show at most `SHOWN` entries, and say how many more there are.
 * - A trouble is said for a while; a lost connection as long as it is lost.
 */

import { element } from './chat.js';
import { lookOf } from './figure.js';

const SHOWN = 100;
const TROUBLE_S = 6, BACK_S = 2.5;

/** @param {string} id @returns {any} */
const byId = (id) => document.getElementById(id);

/**
 * @typedef {object} Host
 * @property {(name: string, password: string) => void} enter
 * @property {() => void} leave
 * @property {(room: string) => void} go
 * @property {() => void} openSide the lists are about to be seen
 * @property {() => void} vr
 */

export class Interface {
  #host;
  #troubleTimer = 0;
  #statusTimer = 0;
  #wasLost = false;

  /** @param {Host} host @param {string} name who was here last */
  constructor(host, name) {
    this.#host = host;
    byId('name').value = name;
    this.#on('join', 'submit', () => host.enter(byId('name').value.trim(), byId('password').value));
    this.#on('other', 'submit', () => {
      host.go(byId('other-name').value.trim());
      byId('other-name').value = '';
    });
    this.#on('open-side', 'click', () => this.#side(byId('side').hidden));
    this.#on('go', 'click', host.leave);
    this.#on('vr', 'click', host.vr);
    this.#on('side', 'keydown', (event) => {
      if (event.key !== 'Escape') return;
      this.#side(false);
      byId('open-side').focus();
    }, false);
  }

  /** @param {string} id @param {string} type @param {(event: any) => void} handler @param {boolean} [prevent] */
  #on(id, type, handler, prevent = true) {
    byId(id).addEventListener(type, (/** @type {Event} */ event) => {
      if (prevent) event.preventDefault();
      handler(event);
    });
  }

  /** @param {boolean} open */
  #side(open) {
    byId('side').hidden = !open;
    byId('open-side').setAttribute('aria-expanded', String(open));
    if (open) this.#host.openSide();
  }

  closeSide() {
    this.#side(false);
  }

  /** Are the lists seen? */
  get sideIsOpen() {
    return !byId('side').hidden;
  }

  toRoom() {
    byId('view').focus();
  }

  /** At the door, with what there is to say to whoever stands there. @param {string} room @param {string} [why] */
  door(room, why = '') {
    byId('door').hidden = false;
    for (const id of ['bar', 'chat', 'side']) byId(id).hidden = true;
    byId('open-side').setAttribute('aria-expanded', 'false');
    byId('door-room').textContent = room;
    byId('door-trouble').textContent = why;
    byId('enter').disabled = false;
    byId('enter').textContent = 'Enter';
    byId('status').replaceChildren();
    this.#wasLost = false;
    document.title = 'trio_vrchat';
  }

  entering() {
    byId('door-trouble').textContent = '';
    byId('enter').disabled = true;
    byId('enter').textContent = 'Entering …';
  }

  /** In the room. @param {string} room */
  inside(room) {
    const first = !byId('door').hidden;
    byId('door').hidden = true;
    byId('bar').hidden = byId('chat').hidden = false;
    byId('room').textContent = room;
    byId('password').value = '';
    document.title = `${room} – trio_vrchat`;
    if (first) this.toRoom();
  }

  /** @param {import('./visit.js').State} state @param {string} why */
  state(state, why) {
    byId('bar').dataset.state = state;
    if (state === 'lost') {
      this.#wasLost = true;
      this.#status(why);
    } else if (state === 'in' && this.#wasLost) {
      this.#wasLost = false;
      this.#status('You are back.', BACK_S);
    }
  }

  /** The visit was ended from elsewhere, and can be taken up again. @param {string} why @param {() => void} again */
  ended(why, again) {
    this.#status(why);
    const button = element('button', 'Come back here');
    button.addEventListener('click', again);
    byId('status').append(button);
  }

  /** @param {string} text @param {number} [seconds] */
  #status(text, seconds) {
    clearTimeout(this.#statusTimer);
    byId('status').textContent = text;
    if (seconds) this.#statusTimer = setTimeout(() => byId('status').replaceChildren(), seconds * 1000);
  }

  /** Something did not work. @param {string} why */
  trouble(why) {
    clearTimeout(this.#troubleTimer);
    byId('trouble').textContent = why;
    this.#troubleTimer = setTimeout(() => byId('trouble').replaceChildren(), TROUBLE_S * 1000);
  }

  /** @param {string[]} names @param {string} us */
  people(names, us) {
    byId('count').textContent = names.length === 1 ? 'only you' : `${names.length} people`;
    if (!this.sideIsOpen) return;
    this.#list('people', names, (name) => {
      const dot = element('i');
      dot.style.background = lookOf(name).css;
      const item = element('li');
      item.append(dot, element('span', name === us ? `${name} (you)` : name));
      return item;
    });
  }

  /** @param {string[]} names @param {string} here */
  rooms(names, here) {
    this.#list('rooms', names, (name) => {
      const link = /** @type {HTMLAnchorElement} */ (element('a', name));
      link.href = `#${encodeURIComponent(name)}`;
      if (name === here) link.setAttribute('aria-current', 'page');
      const item = element('li');
      item.append(link);
      return item;
    });
  }

  /** @param {string} id @param {string[]} names @param {(name: string) => HTMLElement} item */
  #list(id, names, item) {
    const sorted = names.toSorted((a, b) => a.localeCompare(b));
    const items = sorted.slice(0, SHOWN).map(item);
    if (sorted.length > SHOWN) items.push(element('li', `and ${sorted.length - SHOWN} more`));
    // Whoever is at one of the links by keyboard stays there.
    const focused = /** @type {HTMLAnchorElement | null} */ (document.activeElement);
    const href = byId(id).contains(focused) ? focused?.href : undefined;
    byId(id).replaceChildren(...items);
    if (href) [...byId(id).querySelectorAll('a')].find((link) => link.href === href)?.focus();
  }

  /** @param {boolean} possible @param {boolean} inside */
  vr(possible, inside) {
    byId('vr').textContent = inside ? 'Leave VR' : possible ? 'Enter VR' : 'VR?';
  }
}
