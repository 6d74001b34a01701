/**
 * The view of the room, on the page and in a headset: one frame after the other.
 *
 * - A frame: read what is wished, move, let the others go on, say where we are, draw. In a headset each eye is a view, and the page shows
 *   onlookers what the wearer sees.
 * - Nothing is drawn while nothing changes, and nothing at all while the page is hidden.
 * - A graphics processor may take everything away (a laptop slept); it is made anew when it is back.
 */

import { ATLAS_SIZE, Atlas } from './atlas.js';
import { Controls } from './controls.js';
import { drawHand, lookOf } from './figure.js';
import { Headset } from './headset.js';
import { perspective } from './matrix.js';
import { Panel, drawRing } from './panel.js';
import { PHRASES } from './phrases.js';
import { Renderer, Scene } from './renderer.js';
import { Rig } from './rig.js';
import { Ring } from './ring.js';
import { drawScenery } from './scenery.js';
import { World, facing } from './world.js';

const FIELD_OF_VIEW_RAD = 1.15;
const WALK_M_S = 1.9;
/** A frame that took longer was no frame: the page was hidden. */
const LONGEST_FRAME_S = 0.1;
/** Sharper than this nobody sees, and a phone grows warm. */
const PIXEL_RATIO_LIMIT = 2;
/** Onlookers do not mind every third frame; a headset of its own (Android) has none. */
const MIRROR_EVERY = 3, HAS_ONLOOKERS = !/Android/.test(navigator.userAgent);

/** @typedef {import('./pose.js').Pose} Pose */
/**
 * @typedef {object} Play
 * @property {() => number} serverNow
 * @property {(pose: Pose) => void} moved each frame: where we are
 * @property {(phrase: import('./phrases.js').Phrase) => void} chosen with the ring
 * @property {(inside: boolean) => void} vr
 * @property {() => {user: string, room: import('./room.js').Room | null, notice: string}} panel what is written on it
 */

export class Stage {
  world = new World();
  /** Of the last frame that was drawn. */
  stats = { drawCalls: 0, eyes: /** @type {number[][]} */ ([]) };
  /** Has nobody walked or looked around since we were put here? */
  fresh = true;
  #play;
  #canvas = /** @type {HTMLCanvasElement} */ (document.getElementById('view'));
  #controls = new Controls(this.#canvas, /** @type {HTMLElement} */ (document.getElementById('stick')));
  #antialias = new URLSearchParams(location.search).get('aa') !== '0';
  #still = matchMedia('(prefers-reduced-motion: reduce)');
  #gl;
  /** @type {Renderer} */
  #renderer;
  /** @type {Atlas} */
  #atlas;
  #panel = new Panel();
  #rig = new Rig();
  #scene = new Scene();
  #projection = new Float32Array(16);
  /** Seconds, by the local clock, of the last frame, and how many there were. */
  #last = 0;
  #frames = 0;
  #changed = true;
  /** @type {Headset | null} */
  #headset = null;
  /** Has the headset said where it is? */
  #worn = false;
  /** @type {Ring | null} */
  #ring = null;

  /** @param {Play} play */
  constructor(play) {
    this.#play = play;
    const gl = this.#canvas.getContext('webgl2', { antialias: this.#antialias, alpha: false });
    if (gl === null) throw new Error('this browser has no WebGL2');
    this.#gl = gl;
    [this.#renderer, this.#atlas] = this.#build();
    this.#canvas.addEventListener('webglcontextlost', (event) => event.preventDefault());
    this.#canvas.addEventListener('webglcontextrestored', () => {
      [this.#renderer, this.#atlas] = this.#build();
    });
    drawScenery(this.#scene);
    this.#scene.keep();
    new ResizeObserver(() => (this.#changed = true)).observe(this.#canvas);
  }

  /** @returns {[Renderer, Atlas]} */
  #build() {
    const renderer = new Renderer(this.#gl, ATLAS_SIZE);
    this.#panel = new Panel();
    this.#changed = true;
    return [renderer, new Atlas(renderer)];
  }

  start() {
    requestAnimationFrame((time) => this.#frame(time / 1000));
  }

  /** @param {import('./spawn.js').Place} place */
  spawn(place) {
    if (this.#headset && this.#worn) {
      this.#rig.turn(place.yaw - this.#rig.heading);
      const { pos } = this.#rig.pose.head;
      this.#rig.x += place.x - pos[0];
      this.#rig.z += place.z - pos[2];
    } else {
      this.#rig.place(place);
    }
    this.fresh = true;
    this.#changed = true;
  }

  /** Where we are. @returns {Pose} */
  get pose() {
    return this.#rig.pose;
  }

  get inVr() {
    return this.#headset !== null;
  }

  /** By a click. Raises what the browser has against it. */
  async enterVr() {
    this.#headset = await Headset.enter(this.#gl, this.#antialias, () => this.#takenOff());
    this.#worn = false;
    this.#panel.visible = true;
    this.#play.vr(true);
    this.#headset.next((time, frame) => this.#vrFrame(time / 1000, frame));
  }

  leaveVr() {
    void this.#headset?.leave();
  }

  #takenOff() {
    this.#headset = this.#ring = null;
    if (this.#worn) this.#rig.takeOff();
    this.#play.vr(false);
    this.#changed = true;
    this.start();
  }

  /** On the page. @param {number} now */
  #frame(now) {
    if (this.#headset) return;
    this.start();
    const passed = this.#passed(now);
    const wish = this.#controls.read(passed);
    if (wish) {
      this.#rig.turn(wish.turn);
      this.#rig.look(wish.up);
      this.#rig.stand();
      this.#rig.walk(wish.right, wish.forward);
      this.fresh = false;
      this.#changed = true;
    }
    this.#play.moved(this.#rig.pose);
    const { pos, quat } = this.#rig.pose.head;
    const lively = this.world.advance(this.#play.serverNow(), now, pos);
    if (!lively && !this.#changed) return;
    this.#changed = false;
    this.#fill(now, passed);
    this.#renderer.into(null);
    this.#drawPage(pos, quat);
    this.#finish([pos]);
  }

  /** In a headset. @param {number} now @param {any} frame */
  #vrFrame(now, frame) {
    const headset = this.#headset;
    if (headset === null) return;
    headset.next((time, next) => this.#vrFrame(time / 1000, next));
    const passed = this.#passed(now);
    const tracked = headset.track(frame);
    if (tracked === null) return;
    if (!this.#worn) this.#rig.putOn(tracked.head);
    this.#worn = true;
    this.#rig.wear(tracked);
    const wish = headset.read();
    this.#rig.turn(wish.turn);
    this.#rig.walk(wish.right * WALK_M_S * passed, wish.forward * WALK_M_S * passed);
    // Once more, from where the floor is now.
    this.#rig.wear(tracked);
    if (wish.right || wish.forward || wish.turn) this.fresh = false;
    if (wish.toggle) this.#panel.visible = !this.#panel.visible;
    this.#choose(headset, frame);
    const { pose } = this.#rig;
    this.#play.moved(pose);
    this.world.advance(this.#play.serverNow(), now, pose.head.pos);
    this.#fill(now, passed);
    this.#fillVr(now, passed);
    this.#renderer.into(headset.framebuffer);
    const eyes = tracked.eyes.map((eye) => ({ ...eye, ...this.#rig.toRoom(eye) }));
    for (const eye of eyes) this.#renderer.draw(eye);
    this.#finish(eyes.map(({ pos }) => pos));
    // Who draws into the page itself (an emulator) has no mirror.
    if (HAS_ONLOOKERS && headset.framebuffer !== null && this.#frames % MIRROR_EVERY === 0) {
      this.#renderer.into(null);
      this.#drawPage(pose.head.pos, pose.head.quat);
    }
  }

  /** Seconds since the last frame. @param {number} now */
  #passed(now) {
    const passed = Math.max(0, Math.min(LONGEST_FRAME_S, now - this.#last));
    this.#last = now;
    this.#frames++;
    return passed;
  }

  /** @param {Headset} headset @param {any} frame */
  #choose(headset, frame) {
    const held = headset.heldHand(frame);
    if (held) {
      const { pos } = this.#rig.toRoom(held);
      this.#ring ??= new Ring(pos, facing(pos, this.#rig.pose.head.pos));
      this.#ring.follow(pos);
    } else if (this.#ring && !headset.holding) {
      const phrase = PHRASES[this.#ring.choice];
      this.#ring = null;
      if (phrase) this.#play.chosen(phrase);
    }
  }

  /** What all views of this frame see. @param {number} now @param {number} passed */
  #fill(now, passed) {
    this.#scene.clear();
    this.#atlas.begin();
    const { pos, quat } = this.#rig.pose.head;
    this.world.draw(this.#scene, this.#atlas, pos, this.#headset ? null : quat, now, passed, this.#still.matches);
    // What was left unpainted is for the next frame.
    if (!this.#atlas.complete) this.#changed = true;
    if (!this.#headset) this.#renderer.begin(this.#scene);
  }

  /** What only the wearer sees: their hands, the panel, the ring. @param {number} now @param {number} passed */
  #fillVr(now, passed) {
    const { user, room, notice } = this.#play.panel();
    const { head, left, right } = this.#rig.pose;
    const { skin } = lookOf(user);
    if (left) drawHand(this.#scene, left.pos, left.quat, skin, -1);
    if (right) drawHand(this.#scene, right.pos, right.quat, skin, 1);
    this.#panel.paint(this.#atlas, room, notice, now);
    this.#panel.draw(this.#scene, head.pos, this.#rig.heading, passed);
    if (this.#ring) drawRing(this.#scene, this.#ring);
    this.#renderer.begin(this.#scene);
  }

  /** @param {number[]} pos @param {number[]} quat */
  #drawPage(pos, quat) {
    const ratio = Math.min(devicePixelRatio, PIXEL_RATIO_LIMIT);
    const [width, height] = [this.#canvas.clientWidth * ratio, this.#canvas.clientHeight * ratio].map((size) => Math.max(1, Math.round(size)));
    // Setting it clears the page, also to what it is already.
    if (this.#canvas.width !== width) this.#canvas.width = width;
    if (this.#canvas.height !== height) this.#canvas.height = height;
    // On a phone held upright the width is what is short.
    const tall = height > width ? FIELD_OF_VIEW_RAD * 1.15 : FIELD_OF_VIEW_RAD;
    perspective(this.#projection, tall, width / height);
    this.#renderer.draw({ pos, quat, projection: this.#projection, x: 0, y: 0, width, height });
  }

  /** @param {number[][]} eyes */
  #finish(eyes) {
    this.stats = { drawCalls: this.#renderer.calls, eyes };
  }
}
