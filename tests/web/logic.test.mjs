// The page's state without a document: rooms, the visit over lost connections, what is shown of hostile words. Run by tests/test_page_logic.py.
import assert from 'node:assert/strict';
import { test } from 'node:test';

const web = (name) => import(`../../trio_vrchat/web/${name}.js`);
const { Visit } = await web('visit');
const { Room, LOG_LIMIT } = await web('room');
const { ServerClock } = await web('clock');
const { Ring, CHOOSE_M } = await web('ring');
const { Rig } = await web('rig');
const { spawnOf } = await web('spawn');
const { Player } = await web('player');
const { PHRASES, wordsOf } = await web('phrases');
const { whyNotIn, whyNot } = await web('words');
const { clipped, wrapped } = await web('atlas');
const { Scene } = await web('renderer');
const { Figure } = await web('figure');
const { World, PERSONAL_M } = await web('world');
const { readPose } = await web('pose');

const join = (user, time) => ({ time, user, type: 'join', data: '' });
const leave = (user, time) => ({ time, user, type: 'leave', data: '' });
const msg = (user, time, data) => ({ time, user, type: 'msg', data });

/** A world of its own for a visit: sockets that are scripted, and a time that stands still until it is moved. */
class Stand {
  sockets = [];
  timers = new Map();
  time = 0;
  told = [];

  constructor(room = 'lobby') {
    const told = this.told;
    this.visit = new Visit('ws://test/', { user: 'tibi', pass: '1' }, room, new ServerClock(), {
      state: (state, why) => told.push([state, why]),
      arrived: (where) => told.push(['arrived', where.name]),
      heard: (where, changes) => told.push(['heard', where.name, changes]),
      trouble: (why) => told.push(['trouble', why]),
    }, {
      open: () => {
        const socket = { sent: [], closed: null, bufferedAmount: 0, send: (text) => socket.sent.push(JSON.parse(text)), close: (code) => (socket.closed = code ?? 1000) };
        this.sockets.push(socket);
        return socket;
      },
      now: () => this.time,
      wallClock: () => 500 + this.time,
      later: (callback, seconds) => {
        const timer = {};
        this.timers.set(timer, { callback, at: this.time + seconds });
        return timer;
      },
      cancel: (timer) => this.timers.delete(timer),
      random: () => 0.5,
    });
  }

  get socket() {
    return this.sockets.at(-1);
  }

  get requests() {
    return this.socket.sent.filter(({ system }) => system !== 'ping');
  }

  say(message) {
    this.socket.onmessage({ data: JSON.stringify(message) });
  }

  answer(code, detail = {}, time = 100) {
    this.say({ info: code < 400 ? 'system' : 'error', response: { time, code, msg: '', detail } });
  }

  room(room, ...payload) {
    this.say({ info: 'user', room, payload });
  }

  pass(seconds) {
    this.time += seconds;
    for (const [timer, { callback, at }] of this.timers) {
      if (at > this.time) continue;
      this.timers.delete(timer);
      callback();
    }
  }

  letIn(detail = {}) {
    this.socket.onopen();
    this.answer(202, { session: 'token', user: 'Tibi', grace_s: 30, ...detail });
  }

  states() {
    return this.told.filter(([kind]) => ['connecting', 'in', 'lost', 'ended'].includes(kind)).map(([kind]) => kind);
  }
}

test('a list says who is here, and history is no news', () => {
  const room = new Room('lobby', 'Tibi');
  assert.equal(room.take([join('Anna', 10), join('Tibi', 20)]).members, true);
  assert.equal(room.seen, null, 'a list does not count as seen');
  const { lines } = room.take([msg('Old', 5, 'before')]);
  assert.equal(lines[0].old, true);
  assert.equal(room.take([msg('Anna', 21, 'now')]).lines[0].old, false);
  assert.equal(room.seen, 21);
  room.take([leave('Anna', 22)]);
  assert.deepEqual([...room.members.keys()], ['Tibi']);
  assert.deepEqual(room.take([{ time: 23, user: 'Anna', type: 'transform', data: {} }]).moved, [], 'nobody who left moves');
});

test('who came back hears nothing twice, and who came and went meanwhile', () => {
  const room = new Room('lobby', 'Tibi');
  room.take([join('Anna', 1), join('Tibi', 2)]);
  room.take([msg('Anna', 3, 'one')]);
  room.comeBack({ user: 'Tibi', time: 10, kept: false });
  const { lines } = room.take([join('Bea', 9), join('Tibi', 10)]);
  assert.deepEqual(lines.map(({ user, type }) => [user, type]), [['Anna', 'leave'], ['Bea', 'join']]);
  const again = room.take([msg('Anna', 3, 'one'), msg('Bea', 9.5, 'two')]);
  assert.deepEqual(again.lines.map(({ data }) => data), ['two']);
  room.comeBack({ user: 'Tibi', time: 1, kept: false });
  assert.equal(room.take([msg('Anna', 0.5, 'the clock was set back')]).lines.length, 1);
});

test('the log is bounded', () => {
  const room = new Room('lobby', 'Tibi');
  room.take([join('Tibi', 1)]);
  for (let i = 0; i < 3 * LOG_LIMIT; i++) room.take([msg('Anna', 2 + i, String(i))]);
  assert.equal(room.log.length, LOG_LIMIT);
  assert.equal(room.log.at(-1).data, String(3 * LOG_LIMIT - 1));
});

test('a visit to the lobby, as the rooms call us', () => {
  const stand = new Stand();
  stand.letIn();
  assert.deepEqual(stand.requests, [{ system: 'login', options: { user: 'tibi', pass: '1', resume: true } }]);
  stand.room('lobby', join('Anna', 1), join('Tibi', 2));
  assert.equal(stand.visit.user, 'Tibi');
  assert.equal(stand.visit.room.name, 'lobby');
  assert.deepEqual(stand.told.slice(0, 2).map(([kind]) => kind), ['in', 'arrived']);
  assert.equal(stand.visit.say('msg', 'hello'), true);
  assert.deepEqual(stand.requests.at(-1), { room: 'lobby', type: 'msg', data: 'hello' });
});

test('another room: the lobby is left on arriving there, and not before', () => {
  const stand = new Stand('den');
  stand.letIn();
  assert.deepEqual(stand.requests.at(-1), { room: 'den', type: 'join', data: '' });
  stand.room('lobby', join('Tibi', 2));
  assert.equal(stand.visit.room, null);
  stand.room('den', join('Tibi', 3));
  assert.deepEqual(stand.requests.at(-1), { room: 'lobby', type: 'leave', data: '' });
  assert.equal(stand.visit.room.name, 'den');
  stand.room('lobby', msg('Anna', 4, 'still on its way'));
  assert.equal(stand.told.filter(([kind, , changes]) => kind === 'heard' && changes.lines.length > 0).length, 0);
});

test('a room that does not take us: we stay where we are and are told why', () => {
  const stand = new Stand();
  stand.letIn();
  stand.room('lobby', join('Tibi', 2));
  stand.visit.go('full');
  stand.answer(413, { room: 'full', limit: 'members_per_room', value: 1 });
  assert.deepEqual(stand.told.find(([kind]) => kind === 'trouble'), ['trouble', 'This room is full.']);
  assert.deepEqual([stand.visit.room.name, stand.visit.wanted], ['lobby', 'lobby']);
  stand.visit.go('den');
  stand.answer(429, { room: 'den', retry_after: 2 });
  const asked = () => stand.requests.filter(({ room, type }) => room === 'den' && type === 'join').length;
  assert.equal(asked(), 1);
  stand.pass(2);
  assert.equal(asked(), 2, 'too fast is no refusal');
});

test('a room that is out of reach: we wait for it where we are, and are told so once', () => {
  const stand = new Stand('den');
  stand.letIn();
  stand.room('lobby', join('Tibi', 2));
  const asked = () => stand.requests.filter(({ room, type }) => room === 'den' && type === 'join').length;
  const told = () => stand.told.filter(([kind]) => kind === 'trouble').length;
  for (let i = 1; i <= 3; i++) {
    assert.deepEqual([asked(), told()], [i, Math.min(i - 1, 1)]);
    stand.answer(503, { room: 'den', retry_after: 1 });
    stand.pass(1);
  }
  assert.equal(stand.visit.wanted, 'den');
  stand.room('den', join('Tibi', 3));
  assert.equal(stand.visit.room.name, 'den');
  // The server is another one now, without that room for a moment.
  stand.socket.onclose({ code: 1006 });
  stand.pass(1);
  stand.socket.onopen();
  stand.answer(403);
  stand.answer(202, { user: 'Tibi' });
  const before = asked();
  stand.answer(503, { room: 'den', retry_after: 1 });
  stand.pass(1);
  assert.equal(asked(), before + 1);
  stand.room('lobby', join('Tibi', 7));
  stand.answer(413, { room: 'den', limit: 'members_per_room', value: 1 });
  assert.equal(stand.visit.room.name, 'lobby', 'we always are somewhere');
});

test('a lost connection is resumed from what was seen', () => {
  const stand = new Stand();
  stand.letIn();
  stand.room('lobby', join('Anna', 1), join('Tibi', 2));
  stand.room('lobby', msg('Anna', 3, 'hi'));
  stand.socket.onclose({ code: 1006 });
  assert.equal(stand.visit.say('msg', 'into nowhere'), false);
  stand.pass(0.25);
  stand.socket.onopen();
  assert.deepEqual(stand.requests, [{ system: 'resume', options: { session: 'token', seen: { lobby: 3 } } }]);
  stand.answer(202, { session: 'next', user: 'Tibi', complete: { lobby: true } });
  stand.room('lobby', join('Anna', 1), join('Tibi', 2));
  stand.room('lobby', msg('Anna', 4, 'meanwhile'));
  assert.deepEqual(stand.visit.room.log.map(({ data }) => data), ['hi', 'meanwhile']);
  assert.deepEqual(stand.states(), ['in', 'lost', 'in']);
});

test('a server that kept our place is not asked for it again', () => {
  const stand = new Stand('den');
  stand.letIn();
  stand.room('lobby', join('Tibi', 2));
  stand.room('den', join('Tibi', 3));
  stand.socket.onclose({ code: 1006 });
  stand.pass(0.25);
  stand.socket.onopen();
  stand.answer(202, { session: 'next', user: 'Tibi', complete: { den: true } });
  stand.room('den', join('Anna', 4), join('Tibi', 3));
  assert.deepEqual(stand.requests.map(({ system, type }) => system ?? type), ['resume']);
  assert.deepEqual([...stand.visit.room.members.keys()], ['Anna', 'Tibi']);
});

test('a server that was restarted is logged in to again, and the room joined', () => {
  const stand = new Stand('den');
  stand.letIn();
  stand.room('lobby', join('Tibi', 2));
  stand.room('den', join('Tibi', 3));
  stand.socket.onclose({ code: 1001 });
  stand.pass(0.25);
  stand.socket.onclose({ code: 1006 });
  stand.pass(0.5);
  stand.socket.onopen();
  stand.answer(403);
  assert.equal(stand.requests.at(-1).system, 'login');
  stand.answer(202, { session: 'other', user: 'Tibi' }, 200);
  assert.deepEqual(stand.requests.at(-1), { room: 'den', type: 'join', data: '' });
  stand.room('lobby', join('Tibi', 200));
  stand.room('den', join('Tibi', 201));
  assert.deepEqual(stand.requests.at(-1), { room: 'lobby', type: 'leave', data: '' });
  assert.equal(stand.visit.room.name, 'den');
});

test('who is here on another device does not come back by themselves', () => {
  const stand = new Stand();
  stand.letIn();
  stand.room('lobby', join('Tibi', 2));
  stand.socket.onclose({ code: 4009 });
  stand.pass(1000);
  assert.equal(stand.sockets.length, 1);
  assert.deepEqual(stand.states(), ['in', 'ended']);
  assert.match(stand.told.at(-1)[1], /somewhere else/);
});

test('a first try that fails is no loop', () => {
  const unreachable = new Stand();
  unreachable.socket.onclose({ code: 1006 });
  unreachable.pass(1000);
  assert.equal(unreachable.sockets.length, 1);
  assert.match(unreachable.told.at(-1)[1], /cannot be reached/);
  const refused = new Stand();
  refused.socket.onopen();
  refused.answer(409);
  assert.match(refused.told.at(-1)[1], /Somebody else has this name/);
  assert.equal(refused.socket, refused.sockets[0]);
  assert.equal(refused.socket.closed, 1000);
});

test('a connection that stands still is given up without a close frame, which would give up our place', () => {
  const stand = new Stand();
  stand.letIn();
  stand.room('lobby', join('Tibi', 2));
  stand.time += 60;
  stand.visit.tick();
  const [first] = stand.sockets;
  assert.equal(stand.visit.state, 'lost');
  assert.equal(first.closed, null);
  stand.pass(10);
  first.onmessage({ data: JSON.stringify({ info: 'user', room: 'lobby', payload: [msg('Anna', 9, 'late')] }) });
  assert.equal(stand.visit.room.log.length, 0, 'what an old connection brings is not heard');
  stand.socket.onopen();
  stand.answer(202, { session: 'next', user: 'Tibi', complete: { lobby: true } });
  assert.equal(first.closed, 1000);
});

test('pauses grow, and a server that says when to come is obeyed', () => {
  const stand = new Stand();
  stand.letIn();
  const pauses = [];
  for (let i = 0; i < 8; i++) {
    stand.socket.onclose({ code: 1006 });
    const before = stand.time;
    const next = Math.min(...[...stand.timers.values()].map(({ at }) => at));
    pauses.push(next - before);
    stand.pass(next - before);
  }
  assert.deepEqual(pauses, [0.25, 0.5, 1, 2, 4, 5, 5, 5]);
  stand.socket.onopen();
  stand.answer(429, { retry_after: 30 });
  assert.equal(Math.min(...[...stand.timers.values()].map(({ at }) => at)) - stand.time, 35);
});

test('leaving closes the connection, at once and for good', () => {
  const stand = new Stand();
  stand.letIn();
  stand.visit.leave();
  assert.equal(stand.socket.closed, 1000);
  stand.pass(1000);
  assert.equal(stand.sockets.length, 1);
});

test('each code has words', () => {
  for (const code of [400, 401, 403, 409, 413, 429, 500, 503]) {
    for (const why of [whyNot({ code }), whyNotIn({ code }), whyNot({ code, detail: { retry_after: 'soon', reason: {} } })]) {
      assert.match(why, /^[A-Z].+[.]$/);
      assert.doesNotMatch(why, /undefined|NaN|object/);
    }
  }
  assert.match(whyNotIn({ code: 429, detail: { retry_after: 7.2 } }), /8 seconds/);
});

test('what is said is shown as what it is, within limits', () => {
  assert.equal(wordsOf('msg', '<b>x</b>'), '<b>x</b>');
  assert.equal(wordsOf('msg', { a: 1 }), '{"a":1}');
  assert.equal(wordsOf('msg', 'x'.repeat(60000)).length, 2000);
  for (const data of [null, 1, {}, '__proto__', 'constructor', 'nod']) assert.equal(wordsOf('emote', data), '');
  assert.equal(wordsOf('emote', 'wave'), 'waves 👋');
  const paint = { measureText: (text) => ({ width: 10 * [...text].length }) };
  assert.equal(clipped(paint, '👋'.repeat(20), 100), `${'👋'.repeat(9)}…`);
  assert.deepEqual(wrapped(paint, 'one two three four five', 100, 2), ['one two', 'three fou…']);
  assert.deepEqual(wrapped(paint, 'x'.repeat(1000), 100, 3), ['xxxxxxxxxx', 'xxxxxxxxxx', 'xxxxxxxxx…']);
  assert.deepEqual(wrapped(paint, 'wide', 1, 3).length, 1, 'what does not fit at all ends');
});

test('the ring: clockwise from the top, and nothing in the middle', () => {
  const ring = new Ring([1, 1, 1], [0, 0, 0, 1]);
  ring.follow([1, 1, 1.5]);
  assert.equal(ring.choice, -1);
  for (let i = 0; i < PHRASES.length; i++) {
    const [x, y, z] = Ring.place(i, ring);
    ring.follow([x, y, z]);
    assert.equal(ring.choice, i);
  }
  ring.follow([1 + 2 * CHOOSE_M, 1, 1]);
  assert.equal(ring.choice, 2, 'right is right for who looks at its front');
});

test('nobody is put into anybody', () => {
  const places = [];
  for (let i = 0; i < 40; i++) places.push(spawnOf(`Guest ${i}`, places));
  for (const [i, a] of places.entries()) {
    for (const b of places.slice(0, i)) assert.ok(Math.hypot(a.x - b.x, a.z - b.z) >= 1, 'an arm apart');
    // They look to the middle: forward is -z.
    const forward = [-Math.sin(a.yaw), -Math.cos(a.yaw)];
    assert.ok(forward[0] * a.x + forward[1] * a.z < 0);
  }
  assert.deepEqual(spawnOf('Anna'), spawnOf('Anna'));
});

test('putting a headset on and off moves nobody', () => {
  const rig = new Rig();
  rig.place({ x: 3, z: -2, yaw: 1 });
  const head = { pos: [0.4, 1.7, -0.9], quat: [0, Math.sin(0.35), 0, Math.cos(0.35)] };
  rig.putOn(head);
  rig.wear({ head, left: null, right: null });
  const near = (a, b) => a.forEach((part, i) => assert.ok(Math.abs(part - b[i]) < 1e-9, `${a} is not ${b}`));
  near(rig.pose.head.pos, [3, 1.7, -2]);
  near([rig.heading], [1]);
  rig.turn(0.5);
  rig.wear({ head, left: null, right: null });
  near(rig.pose.head.pos, [3, 1.7, -2]);
  near([rig.heading], [1.5]);
  rig.walk(0, 1);
  near(rig.pose.head.pos, [3 - Math.sin(1.5), 1.7, -2 - Math.cos(1.5)]);
  rig.takeOff();
  near(rig.pose.head.pos, [3 - Math.sin(1.5), 1.6, -2 - Math.cos(1.5)]);
  near([rig.heading], [1.5]);
  for (let i = 0; i < 100; i++) rig.walk(0, 10);
  assert.ok(Math.hypot(rig.x, rig.z) < 25, 'the world has an end');
});

test('whatever a stranger sends is drawn in finite numbers, and nobody nearer than 0.3 m', () => {
  const hostile = [null, 'x', [], {}, { pos: 7 }, { pos: { x: 1e300, y: -1e300, z: 1e308 } }, { pos: { x: '1', y: null } },
    { quat: { x: 1e200, y: 1e200, z: 0, w: 1e200 } }, { quat: { x: 0, y: 0, z: 0, w: 0 } }, { rot: { x: 1e300, y: 5 } },
    { hands: 5 }, { hands: { left: { pos: { x: 1e300 } }, right: null } }, { hands: { left: 'x', right: [] } }];
  const scene = new Scene();
  const figure = new Figure('Anna');
  for (const data of hostile) figure.draw(scene, readPose(data), 1, 0.01, false);
  for (const instances of [scene.ball, scene.block, scene.body, scene.shadows]) {
    assert.ok(instances.data.subarray(0, instances.length).every(Number.isFinite));
  }
  const world = new World();
  world.follow(['us', 'near', 'far'], 'us');
  const atlas = { name: () => ({ part: [0, 0, 1, 1], aspect: 4 }), bubble: () => undefined };
  const drawn = () => {
    scene.clear();
    world.advance(10, 10, [0, 1.6, 0]);
    world.draw(scene, atlas, [0, 1.6, 0], null, 10, 0.01, false);
    return scene.body.length / 14;
  };
  const at = (x, time) => ({ time, user: 'near', type: 'transform', data: { pos: { x, y: 1.6, z: 0 } } });
  world.moved(at(2, 9), 9);
  assert.equal(drawn(), 2);
  world.clear();
  world.follow(['us', 'near', 'far'], 'us');
  world.moved(at(PERSONAL_M - 0.01, 9), 9);
  assert.equal(drawn(), 1);
});

test('how far our clock is off is said once it is known, and seldom', () => {
  const stand = new Stand();
  stand.socket.onopen();
  stand.answer(202, { user: 'tibi' }, 1000);
  const said = () => stand.socket.sent.filter(({ system }) => system === 'clock').map(({ options }) => options);
  stand.visit.tick();
  assert.deepEqual(said(), []);
  // The ping that left on coming in is answered: the server's clock is 1000 s ahead of ours since the page was opened.
  const { options } = stand.socket.sent.find(({ system }) => system === 'ping');
  stand.time += 0.2;
  stand.answer(220, { echo: options.echo }, 1000.1 + stand.time - 0.2);
  stand.visit.tick();
  const [clock] = said();
  assert.ok(Math.abs(clock.offset - 500) < 1e-6, `is ${clock.offset}`);
  assert.ok(Math.abs(clock.bound - 0.1) < 1e-3);
  for (let i = 0; i < 20; i++) stand.visit.tick();
  assert.equal(said().length, 1);
});

const recorded = { number: 3, name: 'a', started: 1000, until: 1060, rooms: { den: 1, lobby: 4 } };

/** A player whose questions are answered by hand. */
function aPlayer(details = recorded) {
  const [questions, troubles] = [[], []];
  const player = new Player(
    details,
    (options, answered) => questions.push({ options, answered: (entries, until) => answered({ code: 200, detail: { entries, until } }), refused: answered }),
    (response) => troubles.push(response),
  );
  return { player, questions, troubles };
}

const at = (time, user, type = 'transform', data = {}) => ({ time, user, type, data });

test('a recording begins with who is there, and goes on as fast as time does', () => {
  const { player, questions } = aPlayer();
  player.tick(0);
  assert.deepEqual(questions[0].options, { number: 3, room: 'lobby', time: 1000, seconds: 2, seek: true });
  player.tick(0.1);
  assert.equal(questions.length, 1, 'one question at a time');
  assert.equal(player.position, 1000, 'nothing is there to be shown yet');
  questions[0].answered([at(900, 'Tibi', 'join'), at(950, 'Tibi'), at(1000.5, 'Tibi'), at(1001, 'Anna', 'join'), at(1001.5, 'Tibi', 'leave')], 1002);
  let due = player.tick(0.2);
  assert.deepEqual([due.anew, due.members, due.entries.map(({ time }) => time)], [true, true, [900, 950]]);
  assert.deepEqual([...player.members], ['Tibi']);
  assert.deepEqual(questions[1].options, { number: 3, room: 'lobby', time: 1002, seconds: 2, seek: false });
  const shown = [];
  for (let now = 0.3; now < 1.25; now += 0.1) {
    due = player.tick(now);
    assert.equal(due.anew, false);
    shown.push(...due.entries.map(({ time }) => [Math.round(time * 10) / 10, Math.ceil((now - 0.1) * 10) / 10]));
  }
  assert.deepEqual(shown.map(([time]) => time), [1000.5, 1001]);
  assert.deepEqual([...player.members].sort(), ['Anna', 'Tibi']);
  for (let now = 1.3; now < 5; now += 0.1) player.tick(now);
  assert.equal(player.position, 1002, 'where nothing more has come it waits');
  assert.deepEqual([...player.members], ['Anna']);
  assert.ok(player.playing);
});

test('a seek forgets what waits, and an answer from before it is not heard', () => {
  const { player, questions } = aPlayer();
  player.tick(0);
  questions[0].answered([at(1000, 'Tibi', 'join'), at(1001, 'Tibi')], 1002);
  player.tick(0.1);
  player.playing = false;
  player.seek(1030);
  player.tick(0.2);
  questions[1].answered([at(1003, 'Tibi')], 1004);
  assert.deepEqual(player.tick(0.3).entries, []);
  assert.deepEqual(questions[2].options, { number: 3, room: 'lobby', time: 1030, seconds: 2, seek: true });
  questions[2].answered([at(1020, 'Anna', 'join'), at(1021, 'Anna'), at(1031, 'Anna')], 1032);
  const due = player.tick(0.4);
  assert.deepEqual([due.anew, due.entries.map(({ time }) => time), [...player.members]], [true, [1020, 1021], ['Anna']]);
  for (let now = 0.5; now < 4; now += 0.1) assert.deepEqual(player.tick(now).entries, [], 'it stands still');
  player.seek(5000);
  assert.equal(player.position, 1060);
  player.turn('den');
  player.tick(4.1);
  assert.equal(questions.at(-1).options.room, 'den');
});

test('at eight times the speed it asks for more at once, and ends at the end', () => {
  const { player, questions } = aPlayer();
  player.speed = 8;
  const asked = [];
  let now = 0;
  for (; now < 20 && player.playing; now += 0.1) {
    player.tick(now);
    while (asked.length < questions.length) asked.push(now);
    const { options, answered } = questions.at(-1);
    assert.ok(options.seconds <= 20);
    // A slow network: each answer takes a second.
    if (now - asked.at(-1) > 0.95) answered([], Math.min(1060, options.time + options.seconds));
  }
  assert.equal(player.position, 1060);
  assert.ok(now > 8 && now < 9, `a minute took ${now} s, the first answer included`);
  assert.equal(player.playing, false);
  player.toggle();
  player.tick(now + 0.1);
  assert.deepEqual([player.playing, player.position, questions.at(-1).options.seek], [true, 1000, true]);
});

test('who is told to slow down asks again later; what is refused ends it', () => {
  const { player, questions, troubles } = aPlayer();
  player.tick(0);
  questions[0].refused({ code: 429, detail: { retry_after: 3 } });
  player.tick(2.9);
  assert.equal(questions.length, 1);
  player.tick(3.1);
  assert.equal(questions.length, 2);
  questions[1].refused({ code: 400, detail: { reason: 'there is no recording 3' } });
  player.tick(10);
  assert.deepEqual([player.playing, questions.length, troubles.length], [false, 2, 1]);
});

test('a room knows where each of its members was last', () => {
  const room = new Room('den', 'Tibi');
  room.take([at(1, 'Anna', 'join'), at(1, 'Tibi', 'join')]);
  room.take([at(2, 'Anna'), at(2, 'Nobody')]);
  room.take([at(3, 'Anna')]);
  assert.deepEqual([...room.moved], [['Anna', at(3, 'Anna')]]);
  room.take([at(4, 'Anna', 'leave')]);
  assert.equal(room.moved.size, 0);
  room.take([at(5, 'Anna', 'join')]);
  room.take([at(5.5, 'Anna')]);
  room.take([at(6, 'Tibi', 'join')]);
  assert.equal(room.moved.size, 0, 'of who left while we were away');
});
