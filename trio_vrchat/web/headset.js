/**
 * A session in VR: what the headset tracks, as poses on its floor, and what its hands want.
 *
 * - The left stick walks, the right one turns by steps; where there is one controller, its stick does both. A button (A or X, or a
 *   press on the stick) shows and hides the panel. Holding the trigger or a pinch opens the ring (ring.js).
 * - A hand is its grip (a controller's) or its palm (a bare hand's), and null where it is not tracked.
 * - A session may end from outside at any time: the headset was taken off, its button pressed.
 */

/** @typedef {import('./pose.js').Part} Part */
/** @typedef {{right: number, forward: number, turn: number, toggle: boolean}} Wish from -1 to 1; radians */
/** @typedef {{pos: number[], quat: number[], projection: Float32Array, x: number, y: number, width: number, height: number}} Eye on the headset's floor */
/** @typedef {{head: Part, left: Part | null, right: Part | null, eyes: Eye[]}} Tracked */

const SNAP_RAD = Math.PI / 6;
const DEAD = 0.15, SNAP_AT = 0.7, SNAP_BACK_AT = 0.4;
/** Buttons of the gamepad that WebXR calls xr-standard: the stick's own, and A or X. */
const TOGGLES = [3, 4];
/** Where a headset gives no floor: its height is guessed. */
const GUESSED_EYES_M = 1.6;

/** Why there is no VR here, or '' where there is. */
export async function whyNoVr() {
  const { xr } = /** @type {any} */ (navigator);
  if (xr) {
    if (await xr.isSessionSupported('immersive-vr').catch(() => false)) return '';
    return 'No headset was found. Open this page in a headset’s own browser, or connect one to this computer.';
  }
  if (isSecureContext) return 'This browser has no WebXR. Headsets’ own browsers have it, and so have Chrome and Edge.';
  return `Headsets allow VR only over https. Open https://${location.host}/ instead (the server has to be started with --tls auto).`;
}

export class Headset {
  #session;
  #layer;
  #space;
  #floor;
  /** @type {Map<any, boolean>} sources whose stick is to the side: one step, not many */
  #snapped = new Map();
  #pressed = false;
  /** @type {any} the source that holds the trigger */
  holding = null;

  /** Must be called by a click. @param {WebGL2RenderingContext} gl @param {boolean} antialias @param {() => void} ended */
  static async enter(gl, antialias, ended) {
    const session = await /** @type {any} */ (navigator).xr.requestSession('immersive-vr', {
      optionalFeatures: ['local-floor', 'hand-tracking'],
    });
    try {
      await /** @type {any} */ (gl).makeXRCompatible();
      const Layer = /** @type {any} */ (globalThis).XRWebGLLayer;
      const layer = new Layer(session, gl, { antialias });
      await session.updateRenderState({ baseLayer: layer, depthNear: 0.05, depthFar: 400 });
      const space = await session.requestReferenceSpace('local-floor').catch(() => null);
      return new Headset(session, layer, space ?? (await session.requestReferenceSpace('local')), space ? 0 : GUESSED_EYES_M, ended);
    } catch (error) {
      await session.end();
      throw error;
    }
  }

  /** @param {any} session @param {any} layer @param {any} space @param {number} floor @param {() => void} ended */
  constructor(session, layer, space, floor, ended) {
    this.#session = session;
    this.#layer = layer;
    this.#space = space;
    this.#floor = floor;
    session.addEventListener('end', ended);
    session.addEventListener('selectstart', (/** @type {any} */ { inputSource }) => (this.holding ??= inputSource));
    session.addEventListener('selectend', (/** @type {any} */ { inputSource }) => {
      if (this.holding === inputSource) this.holding = null;
    });
  }

  leave() {
    return this.#session.end();
  }

  /** @param {(time: number, frame: any) => void} callback */
  next(callback) {
    this.#session.requestAnimationFrame(callback);
  }

  /** Where to draw; null where it is the page itself (an emulated headset). */
  get framebuffer() {
    return this.#layer.framebuffer;
  }

  /** @param {any} frame @returns {Tracked | null} null while the headset does not know where it is */
  track(frame) {
    const viewer = frame.getViewerPose(this.#space);
    if (!viewer) return null;
    const eyes = viewer.views.map((/** @type {any} */ view) => {
      const { x, y, width, height } = this.#layer.getViewport(view);
      return { ...this.#part(view.transform), projection: view.projectionMatrix, x, y, width, height };
    });
    /** @type {Tracked} */
    const tracked = { head: this.#part(viewer.transform), left: null, right: null, eyes };
    for (const source of this.#session.inputSources) {
      if (source.handedness === 'none') continue;
      tracked[/** @type {'left' | 'right'} */ (source.handedness)] = this.#hand(frame, source);
    }
    return tracked;
  }

  /** The hand that holds the trigger, on the headset's floor. @param {any} frame */
  heldHand(frame) {
    return this.holding && this.#hand(frame, this.holding);
  }

  /** @param {any} frame @param {any} source @returns {Part | null} */
  #hand(frame, source) {
    const palm = source.hand?.get('middle-finger-metacarpal');
    const pose = palm ? frame.getJointPose(palm, this.#space) : source.gripSpace && frame.getPose(source.gripSpace, this.#space);
    return pose ? this.#part(pose.transform) : null;
  }

  /** @param {any} transform @returns {Part} */
  #part({ position: p, orientation: q }) {
    return { pos: [p.x, p.y + this.#floor, p.z], quat: [q.x, q.y, q.z, q.w] };
  }

  /** What sticks and buttons say in this frame. @returns {Wish} */
  read() {
    const wish = { right: 0, forward: 0, turn: 0, toggle: false };
    const sources = [...this.#session.inputSources].filter(({ gamepad }) => gamepad?.mapping === 'xr-standard');
    let pressed = false;
    for (const source of sources) {
      const { axes, buttons } = source.gamepad;
      // A touchpad, where there is no stick.
      const [x = 0, y = 0] = axes.length > 2 ? axes.slice(2) : axes;
      const alone = sources.length === 1;
      if (Math.abs(y) > DEAD) wish.forward -= y;
      if (source.handedness === 'left' && !alone) {
        if (Math.abs(x) > DEAD) wish.right += x;
      } else if (Math.abs(x) > SNAP_AT) {
        if (!this.#snapped.get(source.handedness)) wish.turn -= Math.sign(x) * SNAP_RAD;
        this.#snapped.set(source.handedness, true);
      } else if (Math.abs(x) < SNAP_BACK_AT) {
        this.#snapped.set(source.handedness, false);
      }
      pressed ||= TOGGLES.some((button) => buttons[button]?.pressed);
    }
    wish.toggle = pressed && !this.#pressed;
    this.#pressed = pressed;
    return wish;
  }
}
