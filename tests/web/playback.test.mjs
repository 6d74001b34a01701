// How smoothly others are seen, in simulated time, and what playback does where there is no walk. Run by tests/test_page_logic.py.
import assert from 'node:assert/strict';
import { test } from 'node:test';

import { ServerClock } from '../../trio_vrchat/web/clock.js';
import { Playback } from '../../trio_vrchat/web/playback.js';
import { seeded } from './random.mjs';
import { asText, table } from './simulation.mjs';

const NOW = 1_568_979_503.28;
const FRAME_S = 1 / 90, BATCH_S = 1 / 20, WAY_S = 0.03;

/** Somebody whose place is a function of the time, as playback shows them: `seen(time, x)` for each frame. */
function watch(playback, xAt, { from = 0, to, sends = () => true, seen = () => {} }) {
  const arrivals = [];
  for (let batch = Math.round(from / BATCH_S); batch * BATCH_S < to; batch++) {
    const at = batch * BATCH_S;
    if (sends(at)) arrivals.push({ at, arrival: at + WAY_S, x: xAt(at) });
  }
  for (let time = from; time < to; time += FRAME_S) {
    while (arrivals.length && arrivals[0].arrival <= time) {
      const { at, arrival, x } = arrivals.shift();
      playback.add({ pos: { x, y: 1.6, z: 0 }, t: NOW + at }, NOW + at + WAY_S / 2, NOW + arrival);
    }
    const pose = playback.pose(NOW + time);
    if (pose) seen(time, pose.head.pos[0]);
  }
}

test('a walker is seen to walk evenly, on a good network and on a poor one', (context) => {
  const rows = table([1, 2]);
  for (const line of asText(rows).split('\n')) context.diagnostic(line);
  const row = (network, player) => rows.find((each) => each.network === network && each.player === player);
  for (const [network, limit, latency] of [['good', 0.05, 0.2], ['poor', 0.1, 0.55]]) {
    const own = row(network, 'trio_vrchat');
    assert.ok(own.frames > 100_000);
    assert.ok(own.speed_rms <= limit, `${network}: RMS error of the speed ${own.speed_rms} m/s`);
    assert.ok(own.worst_speed_rms <= 2 * limit, `${network}: ${own.worst_speed_rms} m/s, ${own.worst}`);
    // Nobody gains by waiting.
    assert.ok(own.latency <= latency, `${network}: seen ${own.latency} s late`);
    assert.ok(own.longest_delay <= 0.5);
    for (const other of ['fixed buffer, 100 ms', 'fixed buffer, 50 ms', 'apply on arrival']) {
      assert.ok(row(network, other).speed_rms > 4 * own.speed_rms, `${network}: ${other} is as good`);
      assert.ok(row(network, other).turn_rms > 4 * own.turn_rms, `${network}: ${other} turns as well`);
    }
  }
});

test('who stands still after a walk is shown where they are, without having gone far beyond', () => {
  let furthest = 0, last = NaN;
  const xAt = (time) => 1.4 * Math.min(time, 5);
  watch(new Playback(), xAt, { to: 8, sends: (at) => at <= 5.2, seen: (_, x) => { furthest = Math.max(furthest, x); last = x; } });
  assert.ok(Math.abs(last - 7) < 1e-9, `is shown at ${last}`);
  assert.ok(furthest < 7.03, `went to ${furthest}`);
});

test('where nothing comes any more the walk goes on for 0.1 s, and then holds', () => {
  const playback = new Playback();
  const shown = [];
  watch(playback, (time) => 1.4 * time, { to: 5.6, sends: (at) => at <= 5, seen: (time, x) => shown.push([time, x]) });
  const furthest = Math.max(...shown.map(([, x]) => x));
  assert.ok(furthest > 1.4 * 5.09 && furthest < 1.4 * 5.11, `coasted to ${furthest / 1.4} s of the way`);
  const held = shown.filter(([, x]) => x === furthest);
  assert.ok(held.length > 10, 'and stays there');
});

test('after a pause the way that ends it takes no longer than a walk', () => {
  const shown = [];
  const xAt = (time) => (time < 10 ? 0 : Math.min(1.4 * (time - 10), 1.4));
  watch(new Playback(), xAt, { to: 12, sends: (at) => at < 1 || at > 10, seen: (time, x) => shown.push([time, x]) });
  const begins = shown.find(([, x]) => x > 0.01)[0], ends = shown.find(([, x]) => x > 1.39)[0];
  assert.ok(begins > 10, `moved at ${begins}, before the walk`);
  assert.ok(ends - begins < 1.1, `took ${ends - begins} s`);
});

test('nobody slides through a teleport', () => {
  const between = [];
  const xAt = (time) => (time < 5.02 ? 1.4 * time : 50 + 1.4 * time);
  watch(new Playback(), xAt, { to: 7, seen: (_, x) => { if (x > 7.4 && x < 57) between.push(x); } });
  assert.deepEqual(between, []);
});

test('whatever is sent, a pose has only numbers, and is found', () => {
  const seed = 7;
  const random = seeded(seed);
  const strange = [NaN, Infinity, -1e308, 1e308, 0, -0, 1e-320, '1', null, undefined, [], {}, true, NOW, NOW + 1e9, -NOW];
  const pick = () => strange[Math.floor(random() * strange.length)];
  const group = () => (random() < 0.2 ? pick() : { x: pick(), y: pick(), z: pick(), w: pick() });
  const hand = () => (random() < 0.3 ? pick() : { pos: group(), rot: group(), quat: group() });
  const playback = new Playback();
  let time = 0;
  for (let i = 0; i < 20_000; i++) {
    time += random() < 0.01 ? 3 * random() : 0.02 * random();
    const hands = random() < 0.3 ? pick() : { left: hand(), right: hand() };
    const data = random() < 0.05 ? pick() : { pos: group(), rot: group(), quat: group(), hands, t: random() < 0.5 ? pick() : NOW + time };
    playback.add(data, random() < 0.3 ? pick() : NOW + time, NOW + time + 0.05);
    const pose = playback.pose(NOW + time + 0.05);
    if (!pose) continue;
    for (const part of [pose.head, pose.left, pose.right]) {
      if (!part) continue;
      // (A hand may be on its way from one end of the world to the other.)
      assert.ok(part.pos.every((x) => Math.abs(x) <= 40_000), `seed ${seed}, step ${i}: ${part.pos}`);
      assert.ok(Math.abs(Math.hypot(...part.quat) - 1) < 1e-6, `seed ${seed}, step ${i}: ${part.quat}`);
    }
  }
  assert.ok(playback.delay <= 0.5);
});

test("the server's clock is found within the bound that is promised, also when it is set", () => {
  const random = seeded(3);
  const clock = new ServerClock();
  let offset = 1000, local = 50;
  for (let ping = 0; ping < 400; ping++) {
    if (ping === 200) offset += 30;
    const there = 0.02 + 0.05 * random(), back = 0.02 + 0.3 * random() ** 4;
    const echo = clock.sent(local);
    const said = local + there + offset;
    local += there + back;
    assert.ok(clock.answered(echo, said, local));
    assert.ok(!clock.answered(echo, said, local), 'an answer counts once');
    const wrong = Math.abs(clock.now(local) - (local + offset));
    assert.ok(wrong <= clock.errorBound(local) + 1e-9, `ping ${ping}: off by ${wrong}`);
    local += 2;
  }
  assert.ok(clock.errorBound(local) < 0.05);
});
