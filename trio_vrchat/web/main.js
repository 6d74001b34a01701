/**
 * Puts the page together: what is heard goes to the room, the world and the interface; what is wished goes to the server.
 *
 *     connection ─▶ visit ─▶ room ─┬▶ chat, interface                       (document)
 *                                  └▶ world ─▶ scene ─▶ renderer            (WebGL2: stage.js)
 *     controls, headset ─▶ rig ─▶ sender ─▶ visit ─▶ connection
 *
 * - Where we are is in the address, `/#room`: a change of it is a change of rooms, so that links and the way back work.
 * - Who closes the page is gone at once, without waiting for the server to notice.
 * - `trioVrchat` in the console (and in tests) says what is: `connected`, `room`, `members` (names), `user`, `poseOf(name)` (where somebody
 *   is drawn, or where we are; `head`, `left` and `right`, each `pos` and `quat` or null), `stats` (`drawCalls` and `eyes`, the places of
 *   the eyes, of the last frame). It changes nothing.
 */

import { Chat } from './chat.js';
import { ServerClock } from './clock.js';
import { isText } from './controls.js';
import { lastName, passwordFor, rememberName } from './credentials.js';
import { whyNoVr } from './headset.js';
import { Interface } from './interface.js';
import { PHRASES, gestureOf, wordsOf } from './phrases.js';
import { Player } from './player.js';
import { Recordings } from './recordings.js';
import { Sender } from './sender.js';
import { spawnOf } from './spawn.js';
import { Stage } from './stage.js';
import { LOBBY, ROOM_LIMIT, Visit } from './visit.js';
import { whyNot } from './words.js';

/** A recording goes on as often as a screen does, or half. */
const PLAY_EVERY_S = 1 / 40;
const TICK_S = 0.25, ROOMS_EVERY_S = 5, SETTLE_S = 1;

const localNow = () => performance.now() / 1000;

let clock = new ServerClock();
let sender = new Sender();
/** @type {Visit | null} */
let visit = null;
/** The recording that is shown in place of the room. @type {Player | null} */
let player = null;
let playTimer = 0;
/** The name of the room that we were last shown in. @type {string | null} */
let placed = null;
/** Until then the place where we came in may still be changed, once. */
let settledAt = 0;
/** @type {string} what keeps us from VR; '' nothing */
let noVr = 'Still looking for a headset …';

/** By the server's clock, as well as it is known. */
const serverNow = () => (clock.ready ? clock.now(localNow()) : Date.now() / 1000);

function roomOfAddress() {
  try {
    return [...decodeURIComponent(location.hash.slice(1))].slice(0, ROOM_LIMIT).join('') || LOBBY;
  } catch {
    return LOBBY;
  }
}

/** The server that served the page, with its WebSocket on any path. */
function serverUrl() {
  const url = new URL('.', location.href);
  url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
  return url.href;
}

const page = new Interface(
  {
    enter,
    leave: () => {
      goAway();
      atTheDoor();
    },
    go: (room) => (location.hash = encodeURIComponent(room)),
    openSide: () => {
      people();
      listRooms();
      listRecordings();
    },
    vr: () => void enterVr(),
  },
  lastName(),
);
const chat = new Chat(
  (type, data) => {
    const sent = visit?.say(type, data) ?? false;
    if (!sent) page.trouble('Not sent: there is no connection just now.');
    return sent;
  },
  () => page.toRoom(),
);
const recordings = new Recordings({
  record: (on) => administer('record', { on }, listRecordings),
  play: (number) => administer('recordings', { number }, play),
  stop: stopPlaying,
});
const stage = new Stage({
  serverNow,
  moved: (pose) => {
    if (visit?.state !== 'in' || visit.room === null) return;
    const data = sender.frame(pose, localNow(), clock.ready ? serverNow() : NaN);
    if (data !== null) visit.move(data);
  },
  chosen: ({ type, data }) => visit?.say(type, data),
  vr: (inside) => page.vr(noVr === '', inside),
  panel: () => ({ user: visit?.user ?? '', room: visit?.room ?? null, notice: visit?.state === 'in' ? '' : 'Not connected. Trying to come back …' }),
});

/** @param {string} user @param {string} password */
function enter(user, password) {
  goAway();
  page.entering();
  clock = new ServerClock();
  sender = new Sender();
  placed = null;
  recordings.hide();
  const coming = new Visit(serverUrl(), { user, pass: password || passwordFor(user) }, roomOfAddress(), clock, {
    state: (state, why) => {
      if (coming !== visit) return;
      page.state(state, why);
      if (state !== 'ended') return;
      if (placed === null) atTheDoor(why);
      else page.ended(why, () => enter(user, password));
    },
    arrived,
    heard,
    trouble: (why) => page.trouble(why),
  });
  visit = coming;
}

function goAway() {
  stopPlaying();
  const left = visit;
  visit = null;
  left?.leave();
}

/** @param {string} [why] */
function atTheDoor(why) {
  visit = null;
  placed = null;
  stage.world.clear();
  page.door(roomOfAddress(), why);
}

/** @param {import('./room.js').Room} room */
function arrived(room) {
  stopPlaying();
  const { user } = /** @type {Visit} */ (visit);
  rememberName(user);
  if (roomOfAddress() !== room.name) history.replaceState(null, '', `#${encodeURIComponent(room.name)}`);
  if (placed !== room.name) {
    stage.world.clear();
    stage.world.follow(room.members.keys(), user);
    stage.spawn(spawnOf(user, stage.world.places()));
    settledAt = localNow() + SETTLE_S;
  }
  placed = room.name;
  sender.again();
  page.inside(room.name);
  chat.show(room.log);
  people();
  listRooms();
  listRecordings();
}

/** @param {import('./room.js').Room} room @param {import('./room.js').Changes} changes */
function heard(room, { members, lines, moved }) {
  const { user: us } = /** @type {Visit} */ (visit);
  if (members) people();
  if (lines.length > 0) chat.add(lines);
  // The room goes on while a recording is shown in it.
  if (player) return;
  if (members) stage.world.follow(room.members.keys(), us);
  const now = serverNow();
  for (const entry of moved) if (entry.user !== us) stage.world.moved(entry, now);
  // Where the others stand comes just after who they are, and nobody is to stand in anybody.
  if (moved.length > 0 && localNow() < settledAt && stage.fresh) {
    settledAt = 0;
    stage.spawn(spawnOf(us, stage.world.places()));
  }
  for (const line of lines) if (!line.old) said(line);
}

/** Over the head of whoever said it. @param {import('./room.js').Entry} entry */
function said({ user, type, data }) {
  const gesture = type === 'emote' ? gestureOf(data) : undefined;
  if (gesture || type === 'msg') {
    stage.world.said(user, gesture?.sign ?? wordsOf(type, data), gesture?.data ?? null, localNow());
  }
}

/** @param {string} system @param {object} options @param {(detail: any) => void} done */
function administer(system, options, done) {
  visit?.request(system, options, (response) => {
    if (response.code < 300) done(response.detail);
    else page.trouble(whyNot(response));
  });
}

function listRecordings() {
  if (!visit?.admin || !page.sideIsOpen) return;
  visit.request('recordings', {}, ({ code, detail }) => {
    if (code === 212) recordings.list(detail?.recordings ?? [], detail?.recording ?? null);
  });
}

/** @param {import('./player.js').Details} details */
function play(details) {
  if (!visit?.room) return;
  stopPlaying();
  player = new Player(
    details,
    (options, answered) => visit?.request('playback', options, answered),
    (response) => page.trouble(whyNot(response)),
  );
  stage.world.clear();
  page.closeSide();
  recordings.open(player);
  playTimer = setInterval(playOn, PLAY_EVERY_S * 1000);
}

/** What has happened in the recording since the last time, as if it happened now. */
function playOn() {
  if (player === null) return;
  const { anew, members, entries } = player.tick(localNow());
  if (anew) stage.world.clear();
  // We are a guest in it: whoever has our name there is somebody to be seen.
  if (members) stage.world.follow(player.members, '');
  const now = serverNow();
  for (const entry of entries) {
    if (entry.type === 'transform') {
      // The capture time is by the clock of then.
      const time = now - (player.position - entry.time) / player.speed;
      stage.world.moved({ ...entry, time, data: { ...entry.data, t: undefined } }, now);
    } else {
      said(entry);
    }
  }
  recordings.show();
}

/** The room as it is now. */
function stopPlaying() {
  if (player === null) return;
  player = null;
  clearInterval(playTimer);
  recordings.close();
  stage.world.clear();
  if (!visit?.room) return;
  stage.world.follow(visit.room.members.keys(), visit.user);
  const now = serverNow();
  for (const entry of visit.room.moved.values()) if (entry.user !== visit.user) stage.world.moved({ ...entry, time: now }, now);
}

function people() {
  if (visit?.room) page.people([...visit.room.members.keys()], visit.user);
}

function listRooms() {
  if (!page.sideIsOpen) return;
  visit?.list((names) => page.rooms(names, visit?.room?.name ?? LOBBY));
}

async function enterVr() {
  if (stage.inVr) return stage.leaveVr();
  if (noVr !== '') return page.trouble(noVr);
  try {
    await stage.enterVr();
  } catch (error) {
    page.trouble(`VR did not start: ${/** @type {Error} */ (error).message}`);
  }
}

async function findHeadset() {
  noVr = await whyNoVr();
  page.vr(noVr === '', stage.inVr);
}

addEventListener('hashchange', () => {
  const room = roomOfAddress();
  if (visit && visit.state !== 'ended') visit.go(room);
  else page.door(room);
});
addEventListener('keydown', (event) => {
  if (!placed || isText(event.target) || event.ctrlKey || event.metaKey || event.altKey) return;
  const phrase = PHRASES[Number(event.key) - 1];
  if (phrase && !event.repeat) visit?.say(phrase.type, phrase.data);
  // A button or a link that has the focus is pressed by Enter.
  const elsewhere = event.target instanceof Element && event.target.closest('button, a');
  if (event.key === 'Enter' && !elsewhere) {
    event.preventDefault();
    chat.write();
  }
});
addEventListener('pagehide', goAway);
addEventListener('pageshow', ({ persisted }) => {
  if (persisted) atTheDoor();
});
addEventListener('online', () => visit?.hurry());
document.addEventListener('visibilitychange', () => {
  if (!document.hidden) visit?.hurry();
});
setInterval(() => visit?.tick(), TICK_S * 1000);
setInterval(() => {
  listRooms();
  listRecordings();
}, ROOMS_EVERY_S * 1000);
/** @type {any} */ (navigator).xr?.addEventListener?.('devicechange', () => void findHeadset());

Object.defineProperty(globalThis, 'trioVrchat', {
  value: Object.freeze({
    get connected() {
      return visit?.state === 'in';
    },
    get user() {
      return visit?.user ?? null;
    },
    get room() {
      return visit?.room?.name ?? null;
    },
    get members() {
      return [...(visit?.room?.members.keys() ?? [])];
    },
    get stats() {
      return structuredClone(stage.stats);
    },
    /** @param {string} name */
    poseOf: (name) => structuredClone(name === visit?.user ? stage.pose : (stage.world.poseOf(name) ?? null)),
  }),
});

page.door(roomOfAddress());
void findHeadset();
stage.start();
