/**
 * What the graphics processor runs, in GLSL ES 3.00: sky, floor, shadows, solids and labels.
 *
 * - Light is reckoned in linear colours, and made sRGB at the very end. Labels are what a canvas painted, and stay as they are.
 * - The fog has the colour of the horizon, so that the floor ends in the sky and not at an edge.
 * - `Eye` is one view of one frame: two in a headset.
 */

const EYE = `#version 300 es
precision highp float;
layout(std140) uniform Eye {
  mat4 viewProjection;
  vec4 place;
  vec4 turn;
  vec4 lens;  // what a direction is made of: scale and centre of the projection
};
vec3 turned(vec4 q, vec3 v) { return v + 2.0 * cross(q.xyz, cross(q.xyz, v) + q.w * v); }
`;

const LIGHT = `
const vec3 SUN = normalize(vec3(0.45, 0.8, 0.35));
const vec3 HORIZON = vec3(0.87, 0.8, 0.76);
vec3 sky(vec3 direction) {
  float up = max(direction.y, 0.0);
  vec3 colour = mix(HORIZON, vec3(0.55, 0.68, 0.86), smoothstep(0.0, 0.28, up));
  colour = mix(colour, vec3(0.2, 0.38, 0.72), smoothstep(0.15, 1.0, up));
  float sun = max(dot(direction, SUN), 0.0);
  return colour + vec3(1.0, 0.85, 0.6) * (0.22 * pow(sun, 12.0) + 0.5 * pow(sun, 400.0));
}
vec3 fogged(vec3 colour, float metres) {
  return mix(colour, HORIZON, 1.0 - exp(-pow(metres / 70.0, 1.5)));
}
vec4 screen(vec3 linear, float alpha) {
  return vec4(pow(clamp(linear, 0.0, 1.0), vec3(1.0 / 2.2)) * alpha, alpha);
}
out vec4 colour;
`;

/** One triangle over all of the view, behind everything. */
export const SKY = {
  vertex: `${EYE}
out vec3 direction;
void main() {
  vec2 corner = vec2(gl_VertexID == 1 ? 3.0 : -1.0, gl_VertexID == 2 ? 3.0 : -1.0);
  direction = turned(turn, vec3((corner + lens.zw) / lens.xy, -1.0));
  gl_Position = vec4(corner, 0.99999, 1.0);
}`,
  fragment: `${EYE}${LIGHT}
in vec3 direction;
void main() {
  vec3 towards = normalize(direction);
  // A little noise, or a gradient so soft shows bands.
  float noise = fract(sin(dot(gl_FragCoord.xy, vec2(12.99, 78.23))) * 43758.5) / 255.0;
  colour = screen(sky(towards), 1.0) + vec4(vec3(noise), 0.0);
}`,
};

/** A square around whoever looks, with a line each metre and a stronger one each five; in its middle a round place to meet. */
export const FLOOR = {
  vertex: `${EYE}
out vec3 point;
void main() {
  vec2 corner = vec2(gl_VertexID & 1, gl_VertexID >> 1) * 2.0 - 1.0;
  point = vec3(corner.x * 250.0 + place.x, 0.0, -corner.y * 250.0 + place.z);
  gl_Position = viewProjection * vec4(point, 1.0);
}`,
  fragment: `${EYE}${LIGHT}
in vec3 point;
float lines(vec2 at, float width) {
  vec2 pixel = max(fwidth(at), 1e-4);
  vec2 off = abs(fract(at - 0.5) - 0.5);
  // A line thinner than a pixel is a paler one, or the distance would flicker.
  vec2 line = (1.0 - smoothstep(vec2(0.0), pixel + width, off)) * clamp(width / pixel + 0.25, 0.0, 1.0);
  line *= 1.0 - smoothstep(0.2, 0.6, pixel);
  return max(line.x, line.y);
}
float ring(float radius, float at, float width) {
  float pixel = fwidth(radius);
  return 1.0 - smoothstep(width, width + pixel * 1.5, abs(radius - at));
}
void main() {
  float radius = length(point.xz);
  float metres = length(point - place.xyz);
  vec3 ground = mix(vec3(0.42, 0.54, 0.33), vec3(0.34, 0.48, 0.31), smoothstep(8.0, 40.0, radius));
  float pixel = fwidth(radius);
  float inside = 1.0 - smoothstep(7.0 - pixel, 7.0 + pixel, radius);
  ground = mix(ground, vec3(0.72, 0.63, 0.52), inside);
  ground = mix(ground, vec3(0.8, 0.73, 0.64), 1.0 - smoothstep(1.2 - pixel, 1.2 + pixel, radius));
  ground = mix(ground, vec3(0.93, 0.9, 0.86), 0.8 * max(ring(radius, 7.0, 0.06), ring(radius, 1.2, 0.015)));
  ground = mix(ground, vec3(0.97), 0.22 * lines(point.xz, 0.008));
  ground = mix(ground, vec3(1.0), 0.28 * lines(point.xz / 5.0, 0.004));
  colour = screen(fogged(ground * 0.97, metres), 1.0);
}`,
};

/** Soft round shadows: what keeps people on the floor. An instance is a place and a radius. */
export const SHADOW = {
  vertex: `${EYE}
layout(location = 0) in vec4 spot;
out vec2 at;
out float metres;
void main() {
  at = vec2(gl_VertexID & 1, gl_VertexID >> 1) * 2.0 - 1.0;
  vec3 point = vec3(spot.x + at.x * spot.w, 0.004, spot.z - at.y * spot.w);
  metres = length(point - place.xyz);
  gl_Position = viewProjection * vec4(point, 1.0);
}`,
  fragment: `${EYE}${LIGHT}
in vec2 at;
in float metres;
void main() {
  float dark = 0.5 * pow(max(1.0 - length(at), 0.0), 1.3) * exp(-metres / 50.0);
  colour = vec4(vec3(0.13, 0.13, 0.2) * dark, dark);
}`,
};

/** Heads, bodies, hands, trees. A visor (`kind` 1) is dark and has two eyes that shine. */
export const SOLID = {
  vertex: `${EYE}
layout(location = 0) in vec3 vertex;
layout(location = 1) in vec3 normal;
layout(location = 2) in vec3 pos;
layout(location = 3) in vec4 quat;
layout(location = 4) in vec3 size;
layout(location = 5) in vec4 paint;
out vec3 point;
out vec3 facing;
out vec3 local;
flat out vec4 painted;
void main() {
  local = vertex;
  painted = paint;
  point = pos + turned(quat, vertex * size);
  facing = turned(quat, normal / size);
  gl_Position = viewProjection * vec4(point, 1.0);
}`,
  fragment: `${EYE}${LIGHT}
in vec3 point;
in vec3 facing;
in vec3 local;
flat in vec4 painted;
void main() {
  vec3 normal = normalize(facing);
  vec3 seen = place.xyz - point;
  float metres = length(seen);
  seen /= metres;
  bool visor = painted.a > 0.5;
  vec3 base = visor ? vec3(0.018, 0.022, 0.045) : painted.rgb;
  float sun = max((dot(normal, SUN) + 0.35) / 1.35, 0.0);
  vec3 ambient = mix(vec3(0.3, 0.26, 0.24), vec3(0.46, 0.52, 0.64), normal.y * 0.5 + 0.5);
  vec3 light = base * (ambient + vec3(0.8, 0.7, 0.55) * sun * sun);
  float edge = pow(1.0 - max(dot(normal, seen), 0.0), 3.0);
  float shine = pow(max(dot(normal, normalize(SUN + seen)), 0.0), visor ? 90.0 : 24.0);
  light += sky(reflect(-seen, normal)) * edge * (visor ? 0.55 : 0.13) + vec3(shine) * (visor ? 0.7 : 0.06);
  if (visor && local.z < -0.3) {
    vec2 eye = (vec2(abs(local.x), local.y) - vec2(0.42, 0.05)) / vec2(0.13, 0.36);
    float inside = length(eye);
    float soft = fwidth(inside);
    light = mix(light, mix(vec3(1.0), painted.rgb, 0.25), 1.0 - smoothstep(1.0 - soft, 1.0 + soft, inside));
    light += painted.rgb * 0.25 * exp(-inside * 1.2);
  }
  colour = screen(fogged(light, metres), 1.0);
}`,
};

/** Pictures out of the atlas: names, bubbles, and in a headset the panel and the ring. */
export const LABEL = {
  vertex: `${EYE}
layout(location = 0) in vec3 pos;
layout(location = 1) in vec4 quat;
layout(location = 2) in vec3 extent;  // width, height, opacity
layout(location = 3) in vec4 part;    // of the atlas: left, top, width, height
out vec2 at;
out float opacity;
void main() {
  vec2 corner = vec2(gl_VertexID & 1, gl_VertexID >> 1);
  at = part.xy + vec2(corner.x, 1.0 - corner.y) * part.zw;
  opacity = extent.z;
  gl_Position = viewProjection * vec4(pos + turned(quat, vec3((corner - 0.5) * extent.xy, 0.0)), 1.0);
}`,
  fragment: `${EYE}
uniform sampler2D atlas;
in vec2 at;
in float opacity;
out vec4 colour;
void main() {
  colour = texture(atlas, at) * opacity;
  if (colour.a < 0.004) discard;
}`,
};
