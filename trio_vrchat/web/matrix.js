/**
 * The two matrices of a camera, as WebGL takes them: sixteen numbers, column by column. Everything else is in maths.js.
 */

import { conjugate, rotate } from './maths.js';

/** @typedef {Float32Array} Matrix */

/** Nearer than this nothing is drawn, and further nothing needs to be: the fog has it. In metres. */
export const NEAR_M = 0.05, FAR_M = 400;

/** @param {Matrix} out @param {number} fieldOfView vertical, in radians @param {number} aspect width by height */
export function perspective(out, fieldOfView, aspect) {
  const scale = 1 / Math.tan(fieldOfView / 2);
  out.fill(0);
  out[0] = scale / aspect;
  out[5] = scale;
  out[10] = (FAR_M + NEAR_M) / (NEAR_M - FAR_M);
  out[11] = -1;
  out[14] = (2 * FAR_M * NEAR_M) / (NEAR_M - FAR_M);
  return out;
}

const back = [0, 0, 0, 1], axis = [0, 0, 0], moved = [0, 0, 0];

/** From the room to what an eye at `pos`, turned by `quat`, sees. @param {Matrix} out @param {number[]} pos @param {number[]} quat */
export function viewFrom(out, pos, quat) {
  conjugate(back, quat);
  for (let column = 0; column < 3; column++) {
    axis.fill(0);
    axis[column] = 1;
    rotate(axis, back, axis);
    for (let row = 0; row < 3; row++) out[4 * column + row] = axis[row];
    out[4 * column + 3] = 0;
  }
  rotate(moved, back, pos);
  for (let row = 0; row < 3; row++) out[12 + row] = -moved[row];
  out[15] = 1;
  return out;
}

/** The product: first `b`, then `a`. @param {Matrix} out must be neither of the others @param {Matrix} a @param {Matrix} b */
export function times(out, a, b) {
  for (let column = 0; column < 4; column++) {
    for (let row = 0; row < 4; row++) {
      let sum = 0;
      for (let i = 0; i < 4; i++) sum += a[4 * i + row] * b[4 * column + i];
      out[4 * column + row] = sum;
    }
  }
  return out;
}
