/**
 * What can be said without a keyboard, in the order of the keys 1 to 8 and of a headset's ring (from the top, clockwise).
 *
 * A phrase is a `msg` like any other. A gesture is an event of the type `emote` whose data is its name; a client that does not know it
 * shows nothing. Others see it over the head, and as a movement of the hands where these are not tracked.
 */

/** @typedef {{type: 'emote' | 'msg', data: string, sign: string, label: string, did: string}} Phrase */

/** @type {Phrase[]} */
export const PHRASES = [
  { type: 'emote', data: 'wave', sign: '👋', label: 'Wave', did: 'waves' },
  { type: 'msg', data: 'Hello!', sign: 'Hello!', label: 'Say “Hello!”', did: '' },
  { type: 'emote', data: 'thumbs', sign: '👍', label: 'Thumbs up', did: 'gives a thumbs up' },
  { type: 'msg', data: 'Yes', sign: 'Yes', label: 'Say “Yes”', did: '' },
  { type: 'emote', data: 'clap', sign: '👏', label: 'Clap', did: 'claps' },
  { type: 'msg', data: 'No', sign: 'No', label: 'Say “No”', did: '' },
  { type: 'emote', data: 'heart', sign: '❤️', label: 'Send a heart', did: 'sends a heart' },
  { type: 'msg', data: 'Come here', sign: 'Come here', label: 'Say “Come here”', did: '' },
];

/** How long a gesture is seen, in seconds. */
export const GESTURE_S = 3;

const gestures = new Map(PHRASES.filter(({ type }) => type === 'emote').map((phrase) => [phrase.data, phrase]));

/** The gesture that an `emote` means, or undefined. @param {unknown} data */
export function gestureOf(data) {
  return gestures.get(/** @type {string} */ (data));
}

/** As many characters as a person reads in one go; what is longer is clipped where it is shown. */
const SHOWN_CHARACTERS = 2000;

/** What an event says, for people; '' where it says nothing to them. @param {string} type @param {unknown} data */
export function wordsOf(type, data) {
  if (type === 'join') return 'came in';
  if (type === 'leave') return 'left';
  if (type === 'emote') {
    const gesture = gestureOf(data);
    return gesture ? `${gesture.did} ${gesture.sign}` : '';
  }
  if (type !== 'msg') return '';
  return (typeof data === 'string' ? data : JSON.stringify(data)).slice(0, SHOWN_CHARACTERS);
}
