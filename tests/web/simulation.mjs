/**
 * How smoothly a walker is seen over a network: the whole way from one headset to another, in simulated time.
 *
 *     walker → frames → Sender, ServerClock → network → server's latest-only slot → grid of batches → network → playback → frames
 *
 * Both headsets have clocks of their own, which start anywhere and drift, and know the server's only by pings that go over the same
 * connections. What is measured is what a person sees: for each rendered frame how far the head has moved since the one before, over the time
 * between them. The error is that speed less the one which the walker had at the place that is shown (so a player's
 * own idea of the time has no say in it); the latency is how long ago the walker was there.
 *
 * `node tests/web/simulation.mjs [SEED…]` prints the table.
 */

import { fileURLToPath } from 'node:url';

import { ServerClock } from '../../trio_vrchat/web/clock.js';
import { angleBetween, distance } from '../../trio_vrchat/web/maths.js';
import { Sender, toData } from '../../trio_vrchat/web/sender.js';
import { GOOD, POOR, way } from './network.mjs';
import { fixedBuffer, onArrival, ours } from './players.mjs';
import { normal, seeded } from './random.mjs';
import { speedAt, turnAt, walker } from './walker.mjs';

const EPOCH = 1_568_979_503.28;
const FPS = 20;
const WARM_UP_S = 10, SECONDS = 70;
/** What a browser's clock can tell apart. */
const TICK_S = 1e-4;

/** @typedef {import('./network.mjs').Network} Network */
/** @typedef {{network: Network, walk: 'straight' | 'circle', sendHz: number, renderHz: number, seed: number}} Scenario */

/** Everything that happens, in the order of its time. */
class Agenda {
  /** @type {{time: number, order: number, act: (time: number) => void}[]} a heap */
  #heap = [];
  #order = 0;

  /** @param {number} time @param {(time: number) => void} act */
  at(time, act) {
    const heap = this.#heap;
    let i = heap.push({ time, order: this.#order++, act }) - 1;
    for (let up = (i - 1) >> 1; i > 0 && before(heap[i], heap[up]); i = up, up = (i - 1) >> 1) {
      [heap[i], heap[up]] = [heap[up], heap[i]];
    }
  }

  /** @param {number} end */
  run(end) {
    const heap = this.#heap;
    while (heap.length && heap[0].time < end) {
      const { time, act } = heap[0];
      const last = /** @type {any} */ (heap.pop());
      if (heap.length) {
        heap[0] = last;
        for (let i = 0, down = 1; down < heap.length; i = down, down = 2 * i + 1) {
          if (down + 1 < heap.length && before(heap[down + 1], heap[down])) down++;
          if (!before(heap[down], heap[i])) break;
          [heap[i], heap[down]] = [heap[down], heap[i]];
        }
      }
      act(time);
    }
  }
}

/** @param {{time: number, order: number}} a @param {{time: number, order: number}} b */
function before(a, b) {
  return a.time < b.time || (a.time === b.time && a.order < b.order);
}

/**
 * A headset: its connection and its two clocks.
 * @param {Agenda} agenda
 * @param {Network} network
 * @param {() => number} random
 * @param {number} drift
 */
function headset(agenda, network, random, drift) {
  const up = way(network, random, network.loss / 4);
  const down = way(network, random, network.loss);
  const start = 1000 * random();
  const local = (/** @type {number} */ time) => Math.round((start + time * (1 + drift)) / TICK_S) * TICK_S;
  const clock = new ServerClock();
  const ping = (/** @type {number} */ time) => {
    agenda.at(time + 0.1, ping);
    if (!clock.due(local(time))) return;
    const echo = clock.sent(local(time));
    agenda.at(up.arrival(time), (there) => {
      agenda.at(down.arrival(there), (back) => clock.answered(echo, EPOCH + there, local(back)));
    });
  };
  agenda.at(0, ping);
  return { up, down, local, clock };
}

/**
 * The times of frames: a grid that wavers, with a frame or two that are dropped now and then.
 * @param {Agenda} agenda
 * @param {number} hz
 * @param {() => number} random
 * @param {(time: number) => void} act
 */
function frames(agenda, hz, random, act) {
  let frame = 0;
  const next = () => {
    frame += random() < 0.01 ? 2 + Math.floor(2 * random()) : 1;
    agenda.at(frame / hz + Math.max(-0.3 / hz, Math.min(0.3 / hz, normal(random, 0.0005))), (time) => {
      act(time);
      next();
    });
  };
  next();
}

/**
 * Lets a walker be seen by each player; returns what each was like.
 * @param {Scenario} scenario
 * @param {Record<string, () => any>} players
 */
export function simulate({ network, walk, sendHz, renderHz, seed }, players) {
  const random = seeded(seed);
  const agenda = new Agenda();
  const person = walker(walk);
  const sender = headset(agenda, network, random, network.drift);
  const viewer = headset(agenda, network, random, -network.drift);

  /** @type {{time: number, data: any} | null} */
  let slot = null;
  const pace = new Sender();
  const send = (/** @type {number} */ time) => {
    const local = sender.local(time);
    const pose = person.poseAt(time);
    // The page's own sender at its own rate; other programs send when they like.
    const data = sendHz === 30 ? pace.frame(pose, local, sender.clock.now(local)) : toData(pose, sender.clock.now(local));
    if (data) agenda.at(sender.up.arrival(time), (received) => (slot = { time: EPOCH + received, data }));
  };
  frames(agenda, sendHz === 30 ? 72 : sendHz, random, send);

  const seen = Object.entries(players).map(([name, make]) => ({ name, player: make(), meter: new Meter(person) }));
  let missed = false;
  let current = /** @type {any} */ (null);
  const batch = (/** @type {number} */ time) => {
    agenda.at(Math.round(time * FPS + 1) / FPS, batch);
    current = slot ?? current;
    const entry = slot ?? (missed ? current : null);
    slot = null;
    missed = random() < network.missed;
    if (!entry || missed) return;
    agenda.at(viewer.down.arrival(time), (arrival) => {
      const local = viewer.local(arrival);
      for (const { player } of seen) player.add(entry, local, viewer.clock.now(local));
    });
  };
  agenda.at(0, batch);

  let lastFrame = 0;
  frames(agenda, renderHz, random, (time) => {
    const local = viewer.local(time);
    const serverNow = viewer.clock.now(local);
    const delta = viewer.local(time) - viewer.local(lastFrame);
    lastFrame = time;
    for (const { player, meter } of seen) {
      const pose = player.pose(local, serverNow, delta);
      if (pose && time > WARM_UP_S) meter.frame(time, pose);
      if (player.playback) meter.delay = Math.max(meter.delay, player.playback.delay || 0);
    }
  });
  agenda.run(SECONDS);
  return Object.fromEntries(seen.map(({ name, meter }) => [name, meter]));
}

/** What a person sees of an avatar. */
export class Meter {
  #person;
  #time = NaN;
  #pos = [NaN, NaN, NaN];
  #quat = [NaN, NaN, NaN, NaN];
  frames = 0;
  squares = 0;
  turnSquares = 0;
  latency = 0;
  /** The longest that a player wanted to be behind the server's clock. */
  delay = 0;

  /** @param {import('./walker.mjs').Walker} person */
  constructor(person) {
    this.#person = person;
  }

  /** @param {number} time @param {any} pose */
  frame(time, { head }) {
    if (!Number.isNaN(this.#time)) {
      const passed = time - this.#time;
      const middle = head.pos.map((/** @type {number} */ x, /** @type {number} */ i) => (x + this.#pos[i]) / 2);
      const then = this.#person.whenAt(middle, time);
      this.frames++;
      this.latency += (time + this.#time) / 2 - then;
      this.squares += (distance(head.pos, this.#pos) / passed - speedAt(this.#person, then)) ** 2;
      this.turnSquares += (angleBetween(head.quat, this.#quat) / passed - turnAt(this.#person, then)) ** 2;
    }
    this.#time = time;
    this.#pos = [...head.pos];
    this.#quat = [...head.quat];
  }
}

const PLAYERS = {
  'trio_vrchat': ours,
  'fixed buffer, 100 ms': () => fixedBuffer(0.1),
  'fixed buffer, 50 ms': () => fixedBuffer(0.05),
  'apply on arrival': onArrival,
};

/**
 * A row for each network and player, over all walks, rates and seeds: speeds in m/s, turns in rad/s, times in s.
 * @param {number[]} seeds
 */
export function table(seeds) {
  /** @type {any[]} */
  const rows = [];
  for (const network of [GOOD, POOR]) {
    /** @type {Record<string, any[]>} */
    const runs = {};
    for (const seed of seeds) {
      for (const walk of /** @type {const} */ (['straight', 'circle'])) {
        for (const sendHz of [20, 30, 72]) {
          for (const renderHz of [72, 90]) {
            const scenario = { network, walk, sendHz, renderHz, seed };
            for (const [name, meter] of Object.entries(simulate(scenario, PLAYERS))) {
              (runs[name] ??= []).push({ ...meter, walk, sendHz, renderHz, seed });
            }
          }
        }
      }
    }
    for (const [player, meters] of Object.entries(runs)) {
      const frames = sum(meters, (meter) => meter.frames);
      const rms = (/** @type {any} */ meter) => Math.sqrt(meter.squares / meter.frames);
      const worst = meters.reduce((a, b) => (rms(b) > rms(a) ? b : a));
      rows.push({
        network: network.name,
        player,
        frames,
        speed_rms: Math.sqrt(sum(meters, (meter) => meter.squares) / frames),
        turn_rms: Math.sqrt(sum(meters, (meter) => meter.turnSquares) / frames),
        latency: sum(meters, (meter) => meter.latency) / frames,
        longest_delay: Math.max(...meters.map((meter) => meter.delay)),
        worst_speed_rms: rms(worst),
        worst: `${worst.walk}, sent at ${worst.sendHz} Hz, drawn at ${worst.renderHz} Hz, seed ${worst.seed}`,
      });
    }
  }
  return rows;
}

/** @param {any[]} items @param {(item: any) => number} value */
function sum(items, value) {
  return items.reduce((total, item) => total + value(item), 0);
}

/** The table as text. @param {any[]} rows */
export function asText(rows) {
  const lines = rows.map(({ network, player, speed_rms, turn_rms, latency, worst_speed_rms, worst }) => {
    const figures = [speed_rms, turn_rms, latency, worst_speed_rms].map((figure) => figure.toFixed(3).padStart(9));
    return `${network.padEnd(5)} ${player.padEnd(21)}${figures.join('')}  ${worst}`;
  });
  return ['network, player: RMS errors of speed (m/s) and turn (rad/s), latency (s), worst RMS error of speed', ...lines].join('\n');
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const seeds = process.argv.slice(2).map(Number);
  console.log(asText(table(seeds.length ? seeds : [1, 2, 3])));
}
