/**
 * The passwords that were made because none was given: one for each name, kept in this browser.
 *
 * Without accounts the password of a name's first login guards it. A password that somebody typed is not kept here: that is the
 * business of the browser's own keeper of passwords.
 */

const PREFIX = 'trio_vrchat/password/', LAST = 'trio_vrchat/name';
/** Where a browser keeps nothing (private windows may not) it is kept as long as the page. */
const memory = new Map();

/** @param {string} key */
function read(key) {
  try {
    return localStorage.getItem(key) ?? memory.get(key) ?? null;
  } catch {
    return memory.get(key) ?? null;
  }
}

/** @param {string} key @param {string} value */
function write(key, value) {
  memory.set(key, value);
  try {
    localStorage.setItem(key, value);
  } catch {
    // The next visit makes a new one.
  }
}

/** The name that came in last here, or ''. */
export function lastName() {
  return read(LAST) ?? '';
}

/** @param {string} name */
export function rememberName(name) {
  write(LAST, name);
}

/** This browser's own password for a name. @param {string} name as the server compares it, roughly: without regard to case */
export function passwordFor(name) {
  const key = PREFIX + name.normalize('NFKC').toLowerCase();
  const known = read(key);
  if (known !== null) return known;
  const made = Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, '0')).join('');
  write(key, made);
  return made;
}
