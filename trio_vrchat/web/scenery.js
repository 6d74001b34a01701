/**
 * What stands around the place to meet: trees, stones and hills, the same for everybody. They give scale, and tell directions apart.
 */

import { fromEuler } from './maths.js';

/** The place that people can walk in, a circle: within the trees. In metres. */
export const WORLD_RADIUS_M = 24;

const GREENS = [[0.2, 0.36, 0.2], [0.27, 0.42, 0.2], [0.16, 0.33, 0.24], [0.36, 0.44, 0.18]];
const BARK = [0.22, 0.14, 0.09], STONE = [0.42, 0.41, 0.42], HILL = [0.33, 0.45, 0.36];
const GOLDEN = 0.618034;

/** @param {number} i @param {number} salt a number from 0 to 1, scattered evenly */
function scattered(i, salt) {
  return (i * GOLDEN + salt * 0.377 + 0.29 * Math.sin(i * 12.9 + salt * 4.1)) % 1;
}

/** @param {import('./renderer.js').Scene} scene */
export function drawScenery(scene) {
  for (let i = 0; i < 26; i++) {
    const angle = (i / 26) * 2 * Math.PI + 0.16 * Math.sin(i * 7.3);
    const radius = 15 + 13 * Math.abs(scattered(i, 1));
    tree(scene, Math.sin(angle) * radius, Math.cos(angle) * radius, 0.85 + 0.6 * Math.abs(scattered(i, 2)), i);
  }
  for (let i = 0; i < 14; i++) {
    const angle = i * 2.4, radius = 8 + 5 * Math.abs(scattered(i, 3));
    const size = 0.14 + 0.24 * Math.abs(scattered(i, 4));
    const [x, z] = [Math.sin(angle) * radius, Math.cos(angle) * radius];
    scene.ball.push(x, size * 0.3, z, ...fromEuler([0, 0, 0, 1], 0.1, i, 0.05), size * 1.3, size * 0.7, size, ...STONE, 0);
    scene.shadows.push(x, 0, z, size * 2);
  }
  for (let i = 0; i < 9; i++) {
    const angle = i * 0.7 + 0.2 * Math.sin(i * 5), radius = 85 + 18 * Math.sin(i * 3);
    const width = 24 + 9 * Math.sin(i * 2.3);
    scene.ball.push(Math.sin(angle) * radius, -2, Math.cos(angle) * radius, 0, 0, 0, 1, width, 9 + 4 * Math.sin(i * 1.7), width, ...HILL, 0);
  }
}

/** @param {import('./renderer.js').Scene} scene @param {number} x @param {number} z @param {number} size @param {number} i */
function tree(scene, x, z, size, i) {
  const turn = fromEuler([0, 0, 0, 1], 0, i, 0);
  scene.block.push(x, 0.8 * size, z, ...turn, 0.12 * size, 0.9 * size, 0.12 * size, ...BARK, 0);
  const green = GREENS[i % GREENS.length];
  const lighter = green.map((part) => part * 1.25);
  scene.ball.push(x, 2.3 * size, z, ...turn, 1.05 * size, 1.0 * size, 1.0 * size, ...green, 0);
  scene.ball.push(x + 0.3 * size, 3.05 * size, z + 0.1 * size, ...turn, 0.72 * size, 0.7 * size, 0.75 * size, ...lighter, 0);
  scene.shadows.push(x, 0, z, 1.7 * size);
}
