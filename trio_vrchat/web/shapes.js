/**
 * The solid shapes that everything in the room is made of: heads and hands are `ball`s, visors `block`s, bodies `body`s.
 *
 * Each is a surface of revolution or nearly one, about 2 m wide (from -1 to 1), and is brought to its size by its instance. A shape is a
 * list of vertices, six numbers each (place and normal), and of triangles, counter-clockwise from outside.
 */

/** @typedef {{vertices: number[], triangles: number[]}} Shape */

/** Around, and from bottom to top: round enough at arm's length, and cheap sixty times. */
const AROUND = 24, UP = 16;

/** @param {number} value @param {number} power */
function signedPower(value, power) {
  return Math.sign(value) * Math.abs(value) ** power;
}

/** A ball that is the squarer the higher its power: 2 is round, 4 a box with round edges. @param {number} power @returns {Shape} */
function superBall(power) {
  const inner = 2 / power, outer = 2 - inner;
  return surface(UP, (up, around) => {
    const [cu, su, ca, sa] = [Math.cos(up), Math.sin(up), Math.cos(around), Math.sin(around)];
    return {
      pos: [
        signedPower(cu, inner) * signedPower(sa, inner),
        signedPower(su, inner),
        signedPower(cu, inner) * signedPower(ca, inner),
      ],
      normal: [
        signedPower(cu, outer) * signedPower(sa, outer),
        signedPower(su, outer),
        signedPower(cu, outer) * signedPower(ca, outer),
      ],
    };
  });
}

/** A body: round at both ends, broad at the shoulders, narrow below. @returns {Shape} */
function tapered() {
  return surface(UP, (up, around) => {
    const [width, slope] = [widthAt(up), (widthAt(up + 0.01) - widthAt(up - 0.01)) / (Math.sin(up + 0.01) - Math.sin(up - 0.01))];
    const tip = Math.abs(up) > 1.57;
    return {
      pos: [width * Math.sin(around), Math.sin(up), width * Math.cos(around)],
      normal: tip ? [0, up, 0] : [Math.sin(around), -slope, Math.cos(around)],
    };
  });
}

/** @param {number} up from -π/2 to π/2 */
function widthAt(up) {
  const height = Math.sin(up);
  const share = Math.max(0, Math.min(1, (height + 1) / 1.6));
  return (0.5 + 0.5 * share * share * (3 - 2 * share)) * Math.max(0, Math.cos(up)) ** 0.56;
}

/**
 * @param {number} steps from bottom to top
 * @param {(up: number, around: number) => {pos: number[], normal: number[]}} at `up` is -π/2 to π/2, `around` 0 to 2π
 * @returns {Shape}
 */
function surface(steps, at) {
  const vertices = [], triangles = [];
  for (let i = 0; i <= steps; i++) {
    for (let j = 0; j <= AROUND; j++) {
      const { pos, normal } = at((i / steps - 0.5) * Math.PI, (j / AROUND) * 2 * Math.PI);
      const length = Math.hypot(...normal) || 1;
      vertices.push(...pos, ...normal.map((part) => part / length));
      if (i < steps && j < AROUND) {
        const corner = i * (AROUND + 1) + j, above = corner + AROUND + 1;
        triangles.push(corner, corner + 1, above + 1, corner, above + 1, above);
      }
    }
  }
  return { vertices, triangles };
}

/** @type {Record<'ball' | 'block' | 'body', Shape>} */
export const SHAPES = { ball: superBall(2.3), block: superBall(4.5), body: tapered() };
