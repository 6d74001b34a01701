/**
 * The recordings, for an admin: the list of them, the button that records, and the bar by which one is played.
 *
 * - Names of rooms are text: `textContent` only, never markup.
 * - It is shown to admins only; what anybody else asks, the server refuses.
 */

import { element } from './chat.js';
import { SPEEDS } from './player.js';

/** @param {string} id @returns {any} */
const byId = (id) => document.getElementById(id);

/** @typedef {{number: number, name: string, bytes: number}} Listed */
/**
 * @typedef {object} Host
 * @property {(on: boolean) => void} record
 * @property {(number: number) => void} play
 * @property {() => void} stop
 */

export class Recordings {
  #host;
  /** @type {import('./player.js').Player | null} */
  #player = null;
  #recording = false;

  /** @param {Host} host */
  constructor(host) {
    this.#host = host;
    byId('record').addEventListener('click', () => host.record(!this.#recording));
    byId('player-play').addEventListener('click', () => this.#player?.toggle());
    byId('player-close').addEventListener('click', host.stop);
    byId('player-slider').addEventListener('input', () => {
      if (this.#player) this.#player.seek(this.#player.details.started + Number(byId('player-slider').value));
    });
    byId('player-room').addEventListener('change', () => this.#player?.turn(byId('player-room').value));
    for (const speed of SPEEDS) byId('player-speed').append(option(String(speed), `${speed}×`));
    byId('player-speed').addEventListener('change', () => {
      if (this.#player) this.#player.speed = Number(byId('player-speed').value);
    });
  }

  /** Nobody here may see recordings. */
  hide() {
    byId('recordings').hidden = true;
  }

  /** @param {Listed[]} recordings newest first @param {string | null} running the name of the one that is being made */
  list(recordings, running) {
    byId('recordings').hidden = false;
    this.#recording = running !== null;
    byId('record').textContent = running === null ? 'Record' : 'Stop recording';
    byId('record').classList.toggle('on', running !== null);
    // Whoever is at one of them by keyboard stays there.
    const focused = byId('recorded').contains(document.activeElement) ? document.activeElement?.textContent : null;
    const items = recordings.map(({ number, name, bytes }) => {
      const button = element('button', `${number} · ${name}`);
      button.title = `${sizeOf(bytes)}${name === running ? ', being recorded' : ''}`;
      button.addEventListener('click', () => this.#host.play(number));
      const item = element('li');
      item.append(button);
      return item;
    });
    if (items.length === 0) items.push(element('li', 'None yet.'));
    byId('recorded').replaceChildren(...items);
    if (focused) [...byId('recorded').querySelectorAll('button')].find((button) => button.textContent === focused)?.focus();
  }

  /** @param {import('./player.js').Player} player */
  open(player) {
    this.#player = player;
    const { details, room } = player;
    byId('player').hidden = false;
    byId('player-name').textContent = `Recording ${details.number}`;
    byId('player-slider').max = String(details.until - details.started);
    byId('player-speed').value = String(player.speed);
    byId('player-room').replaceChildren(...Object.keys(details.rooms).map((name) => option(name, name)));
    byId('player-room').value = room;
    byId('player-room').hidden = Object.keys(details.rooms).length < 2;
    this.show();
    byId('player-play').focus();
  }

  close() {
    this.#player = null;
    byId('player').hidden = true;
  }

  /** Where it is now. */
  show() {
    if (this.#player === null) return;
    const { position, playing, details } = this.#player;
    const [at, length] = [position - details.started, details.until - details.started];
    byId('player-play').textContent = playing ? '⏸\ufe0e' : '▶\ufe0e';
    byId('player-play').setAttribute('aria-label', playing ? 'Pause' : 'Play');
    byId('player-slider').value = String(at);
    byId('player-slider').setAttribute('aria-valuetext', `${clock(at)} of ${clock(length)}`);
    byId('player-time').textContent = `${clock(at)} / ${clock(length)}`;
  }
}

/** @param {string} value @param {string} text */
function option(value, text) {
  const made = /** @type {HTMLOptionElement} */ (element('option', text));
  made.value = value;
  return made;
}

/** @param {number} seconds */
export function clock(seconds) {
  const whole = Math.floor(seconds);
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  const rest = String(whole % 60).padStart(2, '0');
  return hours > 0 ? `${hours}:${String(minutes).padStart(2, '0')}:${rest}` : `${minutes}:${rest}`;
}

/** @param {number} bytes */
function sizeOf(bytes) {
  return bytes < 1e6 ? `${Math.ceil(bytes / 1000)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}
