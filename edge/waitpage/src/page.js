// Keeps the fan's page live from the room's one public status object. The page is complete without this script.
import words from "../words.json";
import { lot, readTicket } from "./draw.js";

const body = document.body.dataset;
const $ = (id) => document.getElementById(id);
const endpoint = body.endpoint;
const now = () => Date.now() + skew;
const numbers = new Intl.NumberFormat(document.documentElement.lang);
const clock = new Intl.DateTimeFormat(undefined, { hour: "numeric", minute: "2-digit" });
const exactClock = new Intl.DateTimeFormat(undefined, { hour: "numeric", minute: "2-digit", second: "2-digit" });
const NEAR_AHEAD = 100;
const NEAR_MS = 5 * 60e3;

let skew = Date.parse(body.now) - Date.now(); // server time minus the device's, whatever the device believes
let state = body.state;
let rank = body.rank === undefined ? null : Number(body.rank);
let lane = body.lane;
let ticket = body.ticket || null;
let status = null;
let etag = null;
let lobby = state === "lobby" || state === "drawing";
let claiming = false;
let timer = 0;
let spokenAt = 0;
let calledAt = 0;
let opens = body.opens ? Date.parse(body.opens) : 0;
const stay = body.stay ? Date.parse(body.stay) : 0;

document.cookie = "stanchion-js=1; Path=/; Max-Age=86400; SameSite=Lax" + (location.protocol === "https:" ? "; Secure" : "");

// --- what is shown -------------------------------------------------------------------------------------------------------

function show(next, force) {
  if (next === state && !force) return;
  const changed = next !== state;
  state = next;
  document.body.dataset.state = next;
  const w = words[next];
  $("headline").textContent = w.headline;
  text("lead", w.lead);
  text("todo", w.todo);
  for (const el of document.querySelectorAll("[data-show]")) el.hidden = !el.dataset.show.split(" ").includes(next);
  title();
  if (changed) say(w.headline, true);
}

function text(id, s) {
  const el = $(id);
  if (el.textContent !== s) el.textContent = s;
  el.hidden = !s;
}

function set(id, s) {
  const el = $(id);
  if (el.textContent !== s) el.textContent = s;
}

function title() {
  const a = ahead();
  const w = words[state];
  const head = (state === "waiting" || state === "near") && a !== null ? `${round(a)} ahead` : w.title;
  document.title = `${head} – ${body.event}`;
}

// say speaks through the live region: at a change of state, else at most every half minute.
function say(s, important) {
  if (!important && Date.now() - spokenAt < 30e3) return;
  spokenAt = Date.now();
  $("live").textContent = s;
}

// about and count say a number of people honestly: exact below 1,000, then to three digits.
const about = (n) => (n < 1000 ? "" : "about ");
function count(n) {
  let step = 1;
  for (let m = n; m >= 1000; m = Math.floor(m / 10)) step *= 10;
  return numbers.format(step > 1 ? Math.floor((n + step / 2) / step) * step : n);
}
const round = (n) => about(n) + count(n);

function countdown(ms) {
  const s = Math.max(0, Math.ceil(ms / 1000));
  const two = (n) => String(n).padStart(2, "0");
  return s >= 3600 ? `${Math.floor(s / 3600)}:${two(Math.floor(s / 60) % 60)}:${two(s % 60)}` : `${Math.floor(s / 60)}:${two(s % 60)}`;
}

// --- what is known -------------------------------------------------------------------------------------------------------

function laneStatus() {
  if (!status) return null;
  return status.lanes.find((l) => l.name === lane) || status.lanes[0] || null;
}

// ahead is how many people are in front; a place never gets worse, so neither does the number.
let least = Infinity;
function ahead() {
  const l = laneStatus();
  if (rank === null || !l) return null;
  least = Math.min(least, Math.max(0, rank - l.called));
  return least;
}

function estimate() {
  const l = laneStatus();
  const a = ahead();
  if (a === null || !(l.eta.per_second > 0)) return null;
  let n = a;
  const e = l.eta;
  if (e.kind === "sample" && e.block_size > 0 && e.present) {
    const shares = Uint8Array.from(atob(e.present), (c) => c.charCodeAt(0));
    n = 0;
    for (let at = l.called; at < rank; ) {
      const block = Math.floor(at / e.block_size);
      const end = Math.min(rank, (block + 1) * e.block_size);
      const i = Math.min(Math.max(0, block - (e.from_block || 0)), shares.length - 1);
      n += ((end - at) * shares[i]) / 255;
      at = end;
    }
  }
  const t = (n / e.per_second) * 1000;
  return { low: t * e.low, high: t * e.high };
}

function when() {
  if (rank === null) return "We cannot say yet: your place becomes known in a second or two.";
  const e = estimate();
  if (!e) return "We cannot say yet, because nobody has been let in for a while.";
  if (e.high < 60e3) return "In less than a minute";
  return `About ${clock.formatRange(new Date(Date.now() + e.low), new Date(Date.now() + e.high))}`;
}

const CAUSES = {
  paused: "It takes longer than planned, because the line was paused.",
  "slower-core": "It takes longer than planned, because the shop is slower than usual.",
  rate: "It takes longer than planned, because fewer people are let in at a time.",
  "fewer-absent": "It takes longer than planned, because more people have come back for their turn than expected.",
};

function paint() {
  if (!status) return;
  const a = ahead();
  if (a !== null) {
    set("about", about(a));
    set("ahead", count(a));
    set("place", numbers.format(rank + 1));
    const key = `stanchion-start-${body.room}-${status.line}-${rank}`;
    let start = Number(recall(key));
    if (!(start >= a)) remember(key, String((start = a)));
    const done = start > 0 ? 1 - a / start : 0;
    $("rope").hidden = !(start > 0);
    $("rope").setAttribute("aria-label", `${Math.floor(done * 100)} percent of your way is done`);
    $("done").style.width = `${(done * 100).toFixed(1)}%`;
    say(`${round(a)} people ahead of you. ${when()}`);
  }
  set("when", when());
  text("cause", (laneStatus() && CAUSES[laneStatus().eta.cause]) || "");
  $("message").hidden = !status.message;
  set("message-text", status.message);
  set("message-at", status.message_at ? clock.format(new Date(status.message_at)) : "");
  title();
}

function recall(key) {
  try {
    return sessionStorage.getItem(key);
  } catch {
    return null;
  }
}

function remember(key, v) {
  try {
    sessionStorage.setItem(key, v);
  } catch {
    // Blocked storage only costs the bar its beginning.
  }
}

const HALTED = { paused: 1, draining: 1, sold_out: 1, maintenance: 1, ended: 1 };

// decide what the page says from what is known.
async function judge() {
  if (!status) return;
  if (status.opens_at) opens = Date.parse(status.opens_at);
  if (lobby && status.phase === "waiting" && rank === null) await findRank();
  const a = ahead();
  const turn = a === 0 && rank !== null && rank < laneStatus().called;
  if (HALTED[status.phase]) show(status.phase);
  else if (turn) return claim();
  else if (status.phase === "lobby") show("lobby");
  else if (status.phase === "drawing") show("drawing");
  else if (status.phase === "open" && rank === null && !lobby) return go();
  else {
    const e = estimate();
    show(a !== null && (a <= NEAR_AHEAD || (e && e.high <= NEAR_MS)) ? "near" : "waiting");
  }
  paint();
}

// --- the place -----------------------------------------------------------------------------------------------------------

// findRank computes the place of a lobby ticket from the draw, and asks for it where it cannot.
async function findRank() {
  const l = laneStatus();
  const d = status.draw;
  if (ticket && d && d.value && l && l.lobby_count > 0 && globalThis.crypto && crypto.subtle) {
    try {
      const t = readTicket(ticket);
      if (t && t.line === status.line) {
        rank = Number(await lot(body.room, t.line, d.round || 0, d.value, t.who, l.lobby_count));
        return;
      }
    } catch {
      // An odd ticket is the server's to judge.
    }
  }
  await askPlace();
}

async function askPlace() {
  const r = await ask("place");
  if (!r.ok) return refused(await problem(r));
  learn(await r.json());
}

function learn(p) {
  if (p.rank !== null && p.rank !== undefined) rank = p.rank;
  if (p.lane) lane = p.lane;
  if (p.ticket) ticket = p.ticket;
  lobby = p.state === "lobby";
}

async function join() {
  const r = await ask("join", { method: "POST" });
  if (!r.ok) return refused(await problem(r));
  const j = await r.json();
  if (j.pass) return go();
  if (!cookiesWork()) return show("cookies_blocked");
  ticket = j.ticket;
  learn({ ...j.place, state: j.state });
  await poll();
}

const cookiesWork = () => document.cookie.includes("stanchion-js=1");

async function claim() {
  if (claiming) return;
  claiming = true;
  if (!calledAt) {
    calledAt = Date.now();
    show("called");
  }
  for (;;) {
    let p;
    try {
      const r = await ask("claim", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ to: body.back }) });
      if (r.ok) return go();
      p = await problem(r);
    } catch {
      p = { type: "offline", retry_after_ms: 2000 };
    }
    const code = kind(p);
    if (code === "not-called") {
      claiming = false;
      calledAt = 0;
      await askPlace();
      return schedule(p.retry_after_ms);
    }
    if (!p.retry_after_ms) {
      claiming = false;
      return refused(p);
    }
    show(code === "room-full" ? "door" : "moment");
    await sleep(p.retry_after_ms * (0.8 + 0.4 * Math.random()));
  }
}

const kind = (p) => String(p.type || "").split("/").pop();

const REFUSED = {
  "holder-used": "holder_used",
  "place-spent": "spent",
  "line-over": "refused",
  "ticket-invalid": "refused",
  "ticket-missing": "refused",
  "account-needed": "needs_account",
  "invite-invalid": "needs_account",
  "work-invalid": "needs_account",
};

function refused(p) {
  const code = kind(p);
  if (code === "room-closed") return show(status && status.phase === "sold_out" ? "sold_out" : "ended");
  // The server's page for it offers what can be done now; without the old ticket it comes up once.
  if (REFUSED[code]) return REFUSED[code] === state || location.reload();
  if (state === "probe") {
    // A place is still wanted: the limits of the door, or a moment's trouble.
    setTimeout(() => join().catch(lost), (p.retry_after_ms || 3000) * (1 + Math.random()));
  }
}

// go leads the fan in: the page itself is what they wanted.
function go() {
  const here = location.pathname + location.search;
  if (here === body.back) location.reload();
  else location.assign(body.back);
}

// --- the network ---------------------------------------------------------------------------------------------------------

async function ask(what, init = {}) {
  const r = await fetch(`${endpoint}/${what}`, { credentials: "same-origin", cache: "no-store", ...init });
  $("offline").hidden = true;
  return r;
}

async function problem(r) {
  let p = {};
  try {
    p = await r.json();
  } catch {
    // Not ours: a proxy between. Its status is enough.
  }
  if (!p.retry_after_ms && r.status >= 500) p.retry_after_ms = 3000;
  return p;
}

const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

function lost() {
  $("offline").hidden = navigator.onLine !== false;
  schedule(5000 + 5000 * Math.random());
}

async function poll() {
  clearTimeout(timer);
  timer = 0;
  try {
    const sent = Date.now();
    const r = await fetch(`${endpoint}/status`, { credentials: "omit", headers: etag ? { "If-None-Match": etag } : {}, cache: "no-store" });
    if (r.status === 200) {
      status = await r.json();
      etag = r.headers.get("ETag");
      const t = Date.parse(status.server_time);
      if (t) skew = t - (sent + Date.now()) / 2;
    } else if (r.status !== 304) throw new Error("status " + r.status);
    $("offline").hidden = true;
    set("heard", exactClock.format(new Date()));
    if (rank === null && status.phase === "waiting" && !lobby && body.state !== "probe") await askPlace();
    await judge();
    schedule(next());
  } catch {
    lost();
  }
}

// next is when to ask again, as the server tells: often near the front, seldom far behind.
function next() {
  const p = status.poll;
  const lo = Math.min(Math.max(p.min_ms || 2000, 1000), 300e3);
  let hi = Math.min(Math.max(lo, p.max_ms || 60e3), 300e3);
  let ms = hi;
  const l = laneStatus();
  if (status.phase === "drawing") ms = Math.max(lo, hi / 8);
  else if (status.phase === "open") ms = lo;
  else if (status.phase === "lobby" && opens) ms = Math.min(hi, Math.max(lo, opens - now() + 1000 + 4000 * Math.random()));
  else if (status.phase === "waiting" && l) {
    const a = ahead();
    if (a === null || a === 0) ms = lo;
    else {
      if (p.front_max_ms > 0 && l.total > l.called && a <= (l.total - l.called) / 10) ms = hi = Math.max(lo, Math.min(hi, p.front_max_ms));
      if (l.per_minute > 0) ms = Math.min(Math.max(((a / l.per_minute) * 60e3) / 8, lo), hi);
    }
  }
  const spread = Math.min(Math.max(p.spread || 0, 0), 0.5);
  return ms * (1 + spread * (2 * Math.random() - 1));
}

let due = 0;
function schedule(ms) {
  clearTimeout(timer);
  due = Date.now() + ms;
  timer = setTimeout(poll, ms);
}

// --- the clockwork -------------------------------------------------------------------------------------------------------

setInterval(() => {
  if (document.hidden) return;
  if (state === "lobby" && opens) {
    set("countdown", countdown(opens - now()));
    set("opens", new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" }).format(new Date(opens - skew)));
  }
  if (state === "inside" && stay) set("stay", countdown(stay - now()));
}, 500);

// After sleep or a lost network the timers are stale: ask at once, but not all at the same moment.
function wake() {
  if (document.hidden || claiming || !LIVE[state]) return;
  if (timer && due < Date.now() + 1000) schedule(300 * Math.random());
}
document.addEventListener("visibilitychange", wake);
addEventListener("online", () => LIVE[state] && !claiming && schedule(2000 * Math.random()));
addEventListener("pageshow", (e) => e.persisted && LIVE[state] && schedule(0));

const LIVE = { probe: 1, lobby: 1, drawing: 1, waiting: 1, near: 1, called: 1, door: 1, moment: 1, paused: 1, draining: 1, sold_out: 1, maintenance: 1 };

// With a script nobody has to press the button; whoever does is not sent away from the page.
if ($("enter"))
  $("enter").form.addEventListener("submit", (e) => {
    e.preventDefault();
    claim();
  });

if (state === "probe") join().catch(lost);
else if (state === "called" || state === "door" || state === "moment") {
  calledAt = Date.now();
  sleep(Number(body.retryMs) || 0).then(claim);
} else if (LIVE[state]) schedule(500 * Math.random());
