/**
 * What went wrong, in words that a person understands.
 *
 * The codes are those of the protocol (README, "The protocol"). What the server said of its reasons is text like any other, and is clipped.
 */

/** @typedef {{code: number, msg?: string, time?: number, detail?: Record<string, any>}} Response */

const LIMITS = new Map([
  ['members_per_room', 'This room is full.'],
  ['rooms_limit', 'The server has as many rooms as it may have.'],
  ['rooms_per_user', 'You are in as many rooms as you may be in.'],
]);

/** Why nobody was let in. @param {Response} response */
export function whyNotIn({ code, detail = {} }) {
  switch (code) {
    case 400:
      return `This name cannot be used: ${reason(detail)}`;
    case 403:
      return 'The name or the password is not right. If this server keeps accounts, its owner can give you one.';
    case 409:
      return 'Somebody else has this name, or one that looks like it. Take another, or give the password that it was first used with.';
    case 429:
      return `Too many tries. ${again(detail)}`;
    case 503:
      return `The server cannot let anybody in just now. ${again(detail)}`;
    default:
      return `The server has a problem (${code}). ${again(detail)}`;
  }
}

/** Why something was refused in a room. @param {Response} response */
export function whyNot({ code, detail = {} }) {
  switch (code) {
    case 400:
      return `The server does not take that: ${reason(detail)}`;
    case 401:
      return 'You are not in that room any more.';
    case 409:
      return `That does not go together with how things are: ${reason(detail)}`;
    case 413:
      return LIMITS.get(detail.limit) ?? 'That is more than the server takes.';
    case 429:
      return `Slow down: that was not sent. ${again(detail)}`;
    case 500:
      return 'The server could not keep that, so nobody has seen it. Try again.';
    case 503:
      return `Not possible just now. ${again(detail)}`;
    default:
      return `The server refused that (${code}).`;
  }
}

/** Where one is on the way to a room, and the server cannot let anybody in just now. @param {string} room */
export function outOfReach(room) {
  return `The room “${room}” is out of reach just now. You will be there as soon as it is back.`;
}

/** Why there is no connection any more, and none will be made. @param {number} closeCode */
export function whyClosed(closeCode) {
  return closeCode === 4009
    ? 'You came in again somewhere else, in another tab or on another device, and are there now.'
    : 'The connection has ended.';
}

/** @param {Record<string, any>} detail */
function again({ retry_after }) {
  const seconds = Math.ceil(retry_after);
  return seconds > 0 && seconds < 3600 ? `Try again in ${seconds === 1 ? 'a second' : `${seconds} seconds`}.` : 'Try again in a moment.';
}

/** @param {Record<string, any>} detail */
function reason({ reason }) {
  return typeof reason === 'string' ? reason.slice(0, 200) : 'it breaks one of the rules.';
}
