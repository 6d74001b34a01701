/**
 * Vectors and rotations, as plain arrays of numbers: what the wire, the playback and the renderer share.
 *
 * - A vector is [x, y, z] in metres, right-handed, y up. A quaternion is [x, y, z, w] and of length 1.
 * - Nobody looks along +z: a head at rest looks along -z, as in WebXR.
 * - Euler angles are radians in YXZ order: first the roll about z, then the pitch about x, then the yaw about y, each about the
 *   fixed axes (or yaw, pitch, roll about the turned ones, which is the same).
 * - A function with an `out` writes its answer there and returns it; `out` may be one of the arguments.
 */

/** @typedef {number[]} Vector three numbers */
/** @typedef {number[]} Quaternion four numbers, the real one last */

/** Below this sine of the angle between two rotations a straight line is as good as an arc, and does not divide by 0. */
const SMALL_SINE = 1e-4;

/**
 * @param {Vector} out
 * @param {Vector} a
 * @param {Vector} b
 * @param {number} share 0 gives `a`, 1 gives `b`; beyond 1 goes on along the line
 */
export function lerp(out, a, b, share) {
  for (let i = 0; i < 3; i++) out[i] = a[i] + (b[i] - a[i]) * share;
  return out;
}

/** The distance of two points. @param {Vector} a @param {Vector} b */
export function distance(a, b) {
  return Math.hypot(a[0] - b[0], a[1] - b[1], a[2] - b[2]);
}

/** The product: the turn `b`, then the turn `a`. @param {Quaternion} out @param {Quaternion} a @param {Quaternion} b */
export function multiply(out, a, b) {
  const [ax, ay, az, aw] = a;
  const [bx, by, bz, bw] = b;
  out[0] = aw * bx + ax * bw + ay * bz - az * by;
  out[1] = aw * by - ax * bz + ay * bw + az * bx;
  out[2] = aw * bz + ax * by - ay * bx + az * bw;
  out[3] = aw * bw - ax * bx - ay * by - az * bz;
  return out;
}

/** The turn back. @param {Quaternion} out @param {Quaternion} q */
export function conjugate(out, q) {
  for (let i = 0; i < 3; i++) out[i] = -q[i];
  out[3] = q[3];
  return out;
}

/** To length 1; what has no length (or is not finite) becomes no turn at all. @param {Quaternion} out @param {Quaternion} q */
export function normalise(out, q) {
  const length = Math.hypot(q[0], q[1], q[2], q[3]);
  // Also false for NaN.
  if (!(length > 1e-9 && length < Infinity)) {
    out[0] = out[1] = out[2] = 0;
    out[3] = 1;
    return out;
  }
  for (let i = 0; i < 4; i++) out[i] = q[i] / length;
  return out;
}

/** The angle between two rotations, the short way: 0 to π radians. @param {Quaternion} a @param {Quaternion} b */
export function angleBetween(a, b) {
  // By the chord: an arc cosine of the dot product is blind to angles under 1e-8.
  const sign = a[0] * b[0] + a[1] * b[1] + a[2] * b[2] + a[3] * b[3] < 0 ? -1 : 1;
  const chord = Math.hypot(a[0] - sign * b[0], a[1] - sign * b[1], a[2] - sign * b[2], a[3] - sign * b[3]);
  return 4 * Math.asin(Math.min(1, chord / 2));
}

/**
 * Along the shortest arc from one rotation to another, at constant speed.
 * @param {Quaternion} out
 * @param {Quaternion} a
 * @param {Quaternion} b
 * @param {number} share 0 gives `a`, 1 gives `b`; beyond 1 turns on
 */
export function slerp(out, a, b, share) {
  // Half the angle of the turn. q and -q are one rotation: the nearer of them is the short way.
  const half = angleBetween(a, b) / 2;
  const sign = a[0] * b[0] + a[1] * b[1] + a[2] * b[2] + a[3] * b[3] < 0 ? -1 : 1;
  const sine = Math.sin(half);
  const ofA = sine < SMALL_SINE ? 1 - share : Math.sin((1 - share) * half) / sine;
  const ofB = sign * (sine < SMALL_SINE ? share : Math.sin(share * half) / sine);
  for (let i = 0; i < 4; i++) out[i] = a[i] * ofA + b[i] * ofB;
  return normalise(out, out);
}

/** @param {Quaternion} out @param {number} x pitch @param {number} y yaw @param {number} z roll */
export function fromEuler(out, x, y, z) {
  const sx = Math.sin(x / 2), cx = Math.cos(x / 2);
  const sy = Math.sin(y / 2), cy = Math.cos(y / 2);
  const sz = Math.sin(z / 2), cz = Math.cos(z / 2);
  out[0] = sx * cy * cz + cx * sy * sz;
  out[1] = cx * sy * cz - sx * cy * sz;
  out[2] = cx * cy * sz - sx * sy * cz;
  out[3] = cx * cy * cz + sx * sy * sz;
  return out;
}

/** [pitch, yaw, roll] about x, y and z; straight up or down the roll is 0. @param {Vector} out @param {Quaternion} q */
export function toEuler(out, q) {
  const [x, y, z, w] = q;
  const sine = Math.max(-1, Math.min(1, 2 * (w * x - y * z)));
  out[0] = Math.asin(sine);
  if (Math.abs(sine) < 0.9999999) {
    out[1] = Math.atan2(2 * (x * z + w * y), 1 - 2 * (x * x + y * y));
    out[2] = Math.atan2(2 * (x * y + w * z), 1 - 2 * (x * x + z * z));
  } else {
    out[1] = Math.atan2(2 * (w * y - x * z), 1 - 2 * (y * y + z * z));
    out[2] = 0;
  }
  return out;
}

/** The vector, turned. @param {Vector} out @param {Quaternion} q @param {Vector} v */
export function rotate(out, q, v) {
  const [x, y, z, w] = q;
  const [vx, vy, vz] = v;
  // Twice the cross product of the axis and the vector.
  const tx = 2 * (y * vz - z * vy), ty = 2 * (z * vx - x * vz), tz = 2 * (x * vy - y * vx);
  out[0] = vx + w * tx + y * tz - z * ty;
  out[1] = vy + w * ty + z * tx - x * tz;
  out[2] = vz + w * tz + x * ty - y * tx;
  return out;
}
