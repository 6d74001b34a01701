/**
 * Draws a scene with WebGL2, in seven calls a view, however many people are in it.
 *
 * - A scene is lists of instances in arrays that grow as needed and are sent to the graphics processor once a frame; each view then only
 *   changes the `Eye`. Everything of one shape is one call.
 * - Order: sky and floor, shadows on the floor, solids, and what is transparent last, from far to near (whoever fills the scene sorts).
 * - Draws into whichever framebuffer it is given: the page's, or a headset's.
 */

import { times, viewFrom } from './matrix.js';
import { SHAPES } from './shapes.js';
import { FLOOR, LABEL, SHADOW, SKY, SOLID } from './shaders.js';

/** Numbers of one instance, and how they are grouped. */
const SOLID_LAYOUT = [3, 4, 3, 4], SHADOW_LAYOUT = [4], LABEL_LAYOUT = [3, 4, 3, 4];
/** Numbers of an eye: a matrix and three vectors of four. */
const EYE_SIZE = 28;
/** Vertices of a quad, as a strip. */
const QUAD = 4;

/** @typedef {{pos: number[], quat: number[], projection: Float32Array, x: number, y: number, width: number, height: number}} View */

/** Numbers in an array that grows. */
export class Instances {
  data = new Float32Array(1024);
  length = 0;
  #kept = 0;

  /** What is in it now is there in every frame. */
  keep() {
    this.#kept = this.length;
  }

  clear() {
    this.length = this.#kept;
  }

  /** @param {...number} numbers all of one instance */
  push(...numbers) {
    if (this.length + numbers.length > this.data.length) {
      const grown = new Float32Array(2 * this.data.length);
      grown.set(this.data);
      this.data = grown;
    }
    this.data.set(numbers, this.length);
    this.length += numbers.length;
  }
}

export class Scene {
  ball = new Instances();
  block = new Instances();
  body = new Instances();
  shadows = new Instances();
  labels = new Instances();

  #all = [this.ball, this.block, this.body, this.shadows, this.labels];

  /** What is in it now, the scenery, is there in every frame. */
  keep() {
    for (const instances of this.#all) instances.keep();
  }

  clear() {
    for (const instances of this.#all) instances.clear();
  }
}

export class Renderer {
  /** @type {WebGL2RenderingContext} */
  #gl;
  #eyes;
  #eye = new Float32Array(EYE_SIZE);
  #programs;
  #batches;
  #atlas;
  #viewProjection = new Float32Array(16);
  #view = new Float32Array(16);
  /** Draw calls of the last frame, over all its views. */
  calls = 0;

  /** @param {WebGL2RenderingContext} gl @param {number} atlasSize in pixels */
  constructor(gl, atlasSize) {
    this.#gl = gl;
    this.#eyes = gl.createBuffer();
    gl.bindBuffer(gl.UNIFORM_BUFFER, this.#eyes);
    gl.bufferData(gl.UNIFORM_BUFFER, 4 * EYE_SIZE, gl.DYNAMIC_DRAW);
    gl.bindBufferBase(gl.UNIFORM_BUFFER, 0, this.#eyes);
    this.#programs = {
      sky: this.#program(SKY),
      floor: this.#program(FLOOR),
      shadow: this.#program(SHADOW),
      solid: this.#program(SOLID),
      label: this.#program(LABEL),
    };
    this.#batches = {
      ball: this.#batch(SOLID_LAYOUT, SHAPES.ball),
      block: this.#batch(SOLID_LAYOUT, SHAPES.block),
      body: this.#batch(SOLID_LAYOUT, SHAPES.body),
      shadows: this.#batch(SHADOW_LAYOUT),
      labels: this.#batch(LABEL_LAYOUT),
    };
    this.#atlas = gl.createTexture();
    gl.bindTexture(gl.TEXTURE_2D, this.#atlas);
    gl.texStorage2D(gl.TEXTURE_2D, 3, gl.RGBA8, atlasSize, atlasSize);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.LINEAR_MIPMAP_LINEAR);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_S, gl.CLAMP_TO_EDGE);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_T, gl.CLAMP_TO_EDGE);
    gl.pixelStorei(gl.UNPACK_PREMULTIPLY_ALPHA_WEBGL, true);
    gl.enable(gl.DEPTH_TEST);
    gl.enable(gl.CULL_FACE);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
  }

  /** Something was painted: put it into the atlas. @param {HTMLCanvasElement} picture @param {number} left @param {number} top */
  paint(picture, left, top) {
    const gl = this.#gl;
    gl.bindTexture(gl.TEXTURE_2D, this.#atlas);
    gl.texSubImage2D(gl.TEXTURE_2D, 0, left, top, gl.RGBA, gl.UNSIGNED_BYTE, picture);
    gl.generateMipmap(gl.TEXTURE_2D);
  }

  /** Before the views of a frame. @param {Scene} scene */
  begin(scene) {
    this.calls = 0;
    const gl = this.#gl;
    for (const name of /** @type {const} */ (['ball', 'block', 'body', 'shadows', 'labels'])) {
      const batch = this.#batches[name];
      const { data, length } = scene[name];
      batch.count = length / batch.stride;
      gl.bindBuffer(gl.ARRAY_BUFFER, batch.instances);
      if (data.length > batch.room) {
        gl.bufferData(gl.ARRAY_BUFFER, data.byteLength, gl.DYNAMIC_DRAW);
        batch.room = data.length;
      }
      gl.bufferSubData(gl.ARRAY_BUFFER, 0, data, 0, length);
    }
  }

  /** @param {WebGLFramebuffer | null} target */
  into(target) {
    const gl = this.#gl;
    gl.bindFramebuffer(gl.FRAMEBUFFER, target);
    gl.clear(gl.DEPTH_BUFFER_BIT);
  }

  /** @param {View} view */
  draw({ pos, quat, projection, x, y, width, height }) {
    const gl = this.#gl;
    gl.viewport(x, y, width, height);
    const eye = this.#eye;
    eye.set(times(this.#viewProjection, projection, viewFrom(this.#view, pos, quat)), 0);
    eye.set(pos, 16);
    eye.set(quat, 20);
    eye.set([projection[0], projection[5], projection[8], projection[9]], 24);
    gl.bindBuffer(gl.UNIFORM_BUFFER, this.#eyes);
    gl.bufferSubData(gl.UNIFORM_BUFFER, 0, eye);

    const { ball, block, body, shadows, labels } = this.#batches;
    gl.bindVertexArray(null);
    gl.useProgram(this.#programs.sky);
    gl.drawArrays(gl.TRIANGLES, 0, 3);
    gl.useProgram(this.#programs.floor);
    gl.drawArrays(gl.TRIANGLE_STRIP, 0, QUAD);
    this.calls += 2;
    gl.enable(gl.BLEND);
    // They lie on the floor, and nothing else is drawn yet: depth would only make them flicker.
    gl.disable(gl.DEPTH_TEST);
    this.#quads(this.#programs.shadow, shadows);
    gl.enable(gl.DEPTH_TEST);
    gl.disable(gl.BLEND);
    gl.useProgram(this.#programs.solid);
    for (const batch of [ball, block, body]) {
      if (batch.count === 0) continue;
      gl.bindVertexArray(batch.vertexArray);
      gl.drawElementsInstanced(gl.TRIANGLES, batch.triangles, gl.UNSIGNED_SHORT, 0, batch.count);
      this.calls++;
    }
    gl.enable(gl.BLEND);
    gl.depthMask(false);
    this.#quads(this.#programs.label, labels);
    gl.depthMask(true);
    gl.disable(gl.BLEND);
  }

  /** @param {WebGLProgram} program @param {{count: number, vertexArray: WebGLVertexArrayObject | null}} batch */
  #quads(program, { count, vertexArray }) {
    if (count === 0) return;
    const gl = this.#gl;
    gl.useProgram(program);
    gl.bindVertexArray(vertexArray);
    gl.drawArraysInstanced(gl.TRIANGLE_STRIP, 0, QUAD, count);
    this.calls++;
  }

  /** @param {number[]} layout @param {import('./shapes.js').Shape} [shape] without one its instances are quads */
  #batch(layout, shape) {
    const gl = this.#gl;
    const vertexArray = gl.createVertexArray();
    gl.bindVertexArray(vertexArray);
    if (shape) {
      gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
      gl.bufferData(gl.ARRAY_BUFFER, new Float32Array(shape.vertices), gl.STATIC_DRAW);
      this.#attributes(0, [3, 3], 0);
      gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, gl.createBuffer());
      gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, new Uint16Array(shape.triangles), gl.STATIC_DRAW);
    }
    const instances = gl.createBuffer();
    gl.bindBuffer(gl.ARRAY_BUFFER, instances);
    const stride = this.#attributes(shape ? 2 : 0, layout, 1);
    gl.bindVertexArray(null);
    return { vertexArray, instances, stride, triangles: shape?.triangles.length ?? 0, count: 0, room: 0 };
  }

  /** @param {number} first @param {number[]} layout @param {number} divisor */
  #attributes(first, layout, divisor) {
    const gl = this.#gl;
    const stride = layout.reduce((sum, size) => sum + size, 0);
    let offset = 0;
    for (const [i, size] of layout.entries()) {
      gl.enableVertexAttribArray(first + i);
      gl.vertexAttribPointer(first + i, size, gl.FLOAT, false, 4 * stride, 4 * offset);
      gl.vertexAttribDivisor(first + i, divisor);
      offset += size;
    }
    return stride;
  }

  /** @param {{vertex: string, fragment: string}} sources */
  #program({ vertex, fragment }) {
    const gl = this.#gl;
    const program = gl.createProgram();
    for (const [kind, source] of /** @type {[number, string][]} */ ([[gl.VERTEX_SHADER, vertex], [gl.FRAGMENT_SHADER, fragment]])) {
      const shader = /** @type {WebGLShader} */ (gl.createShader(kind));
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS) && !gl.isContextLost()) {
      const logs = (gl.getAttachedShaders(program) ?? []).map((shader) => gl.getShaderInfoLog(shader));
      throw new Error(`a shader does not compile: ${[...logs, gl.getProgramInfoLog(program)].filter(Boolean).join('\n')}`);
    }
    gl.uniformBlockBinding(program, gl.getUniformBlockIndex(program, 'Eye'), 0);
    return program;
  }
}
