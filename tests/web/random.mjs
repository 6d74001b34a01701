/** Chance that is the same in every run: a small generator (mulberry32), and what networks are made of. */

/** @param {number} seed @returns {() => number} numbers from 0 to less than 1 */
export function seeded(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** A bell curve around 0. @param {() => number} random @param {number} deviation */
export function normal(random, deviation) {
  return deviation * Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
}

/** Mostly little, seldom much: a Pareto tail. @param {() => number} random @param {number} scale @param {number} limit */
export function heavyTailed(random, scale, limit) {
  return Math.min(limit, scale * ((1 - random()) ** (-1 / 2) - 1));
}
