// Keeps the fan's page live from the room's one public status object. The page is complete without this script.

import { ahead, estimate, Lane, nextPoll, Phase, Problem, Room, roundPeople, lot, readTicket, Status, verifyPlace } from "../client";
import { unhex } from "../client/formats";
import { Clock, ring } from "./clock";
import { notice, want } from "./notice";
import { Tabs } from "./tabs";
import * as words from "./words";

// News is what the tab that asks tells the others.
interface News {
  status: Status;
  at: number; // the server's time when it was sent, and the device's
  sent: number;
  rank: number | null;
  lane: string;
  lobby: boolean;
  gone?: "in" | "left";
}

const NEAR_AHEAD = 100;
const NEAR_MS = 5 * 60e3;
const HALTED: Partial<Record<Phase, true>> = { paused: true, draining: true, sold_out: true, maintenance: true, ended: true };

// In these states something may change by itself; in the others nothing is asked.
const LIVE: Record<string, true> = {
  probe: true, lobby: true, drawing: true, waiting: true, near: true, called: true, door: true, moment: true, paused: true, draining: true, sold_out: true, maintenance: true,
};
// In these states numbers run by the second.
const TICKS: Record<string, true> = { lobby: true, called: true, door: true, moment: true, inside: true };

const REFUSED: Record<string, string> = {
  "holder-used": "holder_used",
  "place-spent": "spent",
  "line-over": "refused",
  "ticket-invalid": "refused",
  "ticket-missing": "refused",
  "account-needed": "needs_account",
  "invite-invalid": "needs_account",
  "work-invalid": "needs_account",
};
// Where a state says what to do in another's words.
const SHARED: Record<string, string> = {
  door: "stay", moment: "stay", paused: "back", draining: "back", maintenance: "back", left: "again", spent: "again", refused: "again",
};

function start(): void {
  const body = document.body.dataset as Record<string, string>;
  const $ = (id: string): HTMLElement => document.getElementById(id) as HTMLElement;
  const room = new Room(body.endpoint);
  const clock = new Clock();
  const opened = performance.now();

  // The server's time, counted on from the last answer by a clock that nobody sets.
  let serverAt = Date.parse(body.now) || Date.now();
  let heardAt = opened;
  const now = (): number => serverAt + performance.now() - heardAt;

  let state = body.state;
  let status: Status | null = null;
  let rank: number | null = body.rank === undefined ? null : Number(body.rank);
  let line = body.line;
  let lane = body.lane;
  let ticket = body.ticket || "";
  let sample = body.sample === "1";
  let lobby = state === "lobby" || state === "drawing";
  let opens: number | null = body.opens ? Date.parse(body.opens) : null;
  let claiming = false;
  let gone = false; // another tab has gone in with the place
  let calledAt = 0;
  let failed = 0;
  let strange = 0; // polls in a row that this script did not understand
  const stay = body.stay ? Date.parse(body.stay) : 0;

  try {
    document.cookie = "stanchion-js=1; Path=/; Max-Age=86400; SameSite=Lax" + (location.protocol === "https:" ? "; Secure" : "");
  } catch {
    // A frame without cookies; the server finds out by itself.
  }

  // --- what is remembered ------------------------------------------------------------------------------------------------

  // The way of this place so far: where it began, and how far it has come. It never goes back.
  interface Way {
    line: string;
    rank: number;
    start: number;
    least: number;
    called?: number;
  }
  const wayKey = "stanchion-way-" + body.room;
  let way: Way | null = null;

  function follow(a: number): Way {
    if (!way) {
      try {
        const w = JSON.parse(localStorage.getItem(wayKey) || "null");
        if (w && w.line === line && w.start >= w.least && w.least >= 0) way = w;
      } catch {
        // Blocked storage only costs the bar its beginning.
      }
    }
    const r = rank as number;
    if (!way || way.line !== line) way = { line, rank: r, start: a, least: a };
    if (a < way.least || r < way.rank || a > way.start) {
      way.least = Math.min(way.least, a);
      way.rank = Math.min(way.rank, r);
      keep();
    }
    return way;
  }

  function keep(): void {
    try {
      localStorage.setItem(wayKey, JSON.stringify(way));
    } catch {
      // as above
    }
  }

  // --- what is shown -----------------------------------------------------------------------------------------------------

  function set(id: string, s: string): void {
    const el = $(id);
    if (el && el.textContent !== s) el.textContent = s;
  }

  function text(id: string, s: string): void {
    set(id, s);
    const el = $(id);
    if (el) el.hidden = !s;
  }

  function show(next: string): void {
    if (next === state || !words.has(next + ".headline")) return;
    state = next;
    document.body.dataset.state = next;
    set("headline", words.say(next + ".headline"));
    text("lead", words.say(next + ".lead"));
    text("todo", words.say(next + ".todo") || words.say(SHARED[next] + ".todo"));
    reveal();
    title();
    say(words.say(next + ".headline"), true);
    tick();
  }

  function reveal(): void {
    for (const el of document.querySelectorAll<HTMLElement>("[data-show]")) el.hidden = !el.dataset.show?.split(" ").includes(state);
  }

  function title(): void {
    const a = people();
    let head = words.say(state + ".headline");
    if ((state === "waiting" || state === "near") && a !== null) head = inFront(a);
    if (state === "called" || state === "door") head = "● " + head;
    const t = `${head} – ${body.event}`;
    if (document.title !== t) document.title = t;
  }

  // say speaks through the live region: at a change of state, else at most every half minute.
  let spokenAt = performance.now();
  function say(s: string, important = false): void {
    if (!important && performance.now() - spokenAt < 30e3) return;
    if ($("live").textContent === s) return;
    spokenAt = performance.now();
    set("live", s);
  }

  const rounded = (n: number): string => {
    const r = roundPeople(n);
    return r.exact ? words.number(r.n) : words.say("about", { n: words.number(r.n) });
  };
  const inFront = (n: number): string => words.count("ahead", roundPeople(n).n, rounded(n));

  function myLane(): Lane | undefined {
    return status?.lanes.find((l) => l.name === lane) || status?.lanes[0];
  }

  // people is how many are in front; a place never gets worse, so neither does the number.
  function people(): number | null {
    const l = myLane();
    return rank === null || !l ? null : follow(ahead(l, rank)).least;
  }

  function when(): string {
    const l = myLane();
    if (rank === null || !l) return words.say("when.place");
    const e = estimate(l, rank);
    if (!e) return words.say("when.still");
    if (e.high < 60e3) return words.say("when.soon");
    if (e.high > 20 * 3600e3) return words.count("when.hours", Math.round(e.high / 3600e3));
    return words.say("when.clock", { range: words.clocks(now() + e.low, now() + e.high) });
  }

  function paint(): void {
    if (!status) return;
    const a = people();
    if (a !== null && way) {
      const r = roundPeople(a);
      const [before, after] = r.exact ? ["", ""] : words.say("about").split("{n}");
      set("about", before);
      set("ahead", words.number(r.n));
      set("after", after);
      set("place", words.number(way.rank + 1));
      const done = way.start > 0 ? 1 - a / way.start : 0;
      $("rope").setAttribute("aria-label", words.say("progress", { n: words.percent(Math.floor(done * 100) / 100) }));
      // By a transform: what moves so is no change of layout.
      const far = done.toFixed(3);
      if ($("rope").style.getPropertyValue("--way") !== far) $("rope").style.setProperty("--way", far);
    }
    const w = when();
    set("when", w);
    if (state === "waiting" || state === "near") say((a === null ? "" : inFront(a) + ". ") + w);
    const cause = myLane()?.eta.cause || "";
    text("cause", cause && (words.say("cause." + cause) || words.say("cause.other")));
    $("message").hidden = !status.message;
    set("message-text", status.message);
    set("message-at", status.message_at ? words.clock(status.message_at) : "");
    set("heard", words.exactClock(now()));
    title();
  }

  // judge decides what the page says from what is known.
  async function judge(): Promise<void> {
    if (!status) return;
    if (status.opens_at !== null) opens = status.opens_at;
    if (status.line !== line && rank !== null) {
      // Another line: the place may count in it, or not. The server knows.
      rank = null;
      line = status.line;
      await askPlace();
    }
    line = status.line;
    if (lobby && status.phase === "waiting" && rank === null) await findRank();
    const l = myLane();
    if (HALTED[status.phase]) show(status.phase);
    else if (rank !== null && l && rank < l.called) return turn();
    else if (status.phase === "lobby") show("lobby");
    else if (status.phase === "drawing") show("drawing");
    else if (status.phase === "open" && rank === null && !lobby) return go();
    else if (!REFUSED_STATES.has(state)) {
      const a = people();
      const e = l && rank !== null ? estimate(l, rank) : null;
      show(a !== null && (a <= NEAR_AHEAD || (e && e.high <= NEAR_MS)) ? "near" : "waiting");
    }
    paint();
  }
  const REFUSED_STATES = new Set(Object.values(REFUSED));

  // --- the place ---------------------------------------------------------------------------------------------------------

  // findRank computes the place of a lobby ticket from the draw, and asks for it where it cannot.
  async function findRank(): Promise<void> {
    const d = status?.draw;
    const n = myLane()?.lobby_count || 0;
    const t = ticket ? readTicket(ticket) : null;
    if (t && d?.value && n > 0 && t.line === line && globalThis.crypto?.subtle) {
      rank = Number(await lot({ room: body.room, line, lobbyEnd: 0, round: d.round, randomness: unhex(d.value) }, t.who, BigInt(n)));
      return;
    }
    await askPlace();
  }

  async function askPlace(): Promise<void> {
    try {
      learn(await room.place());
    } catch (e) {
      if (!(e instanceof Problem)) throw e;
      refused(e);
    }
  }

  function learn(p: { rank?: number | null; lane?: string; ticket?: string; sample?: boolean; state: string }): void {
    if (typeof p.rank === "number" && p.rank >= 0) rank = p.rank;
    if (p.lane) lane = p.lane;
    if (p.ticket) ticket = p.ticket;
    if (p.sample && !sample) later(60e3, attend);
    sample = !!p.sample;
    lobby = p.state === "lobby";
  }

  // attend calls place each minute: this ticket stands for many in the forecast.
  async function attend(): Promise<void> {
    if (!sample || !LIVE[state]) return;
    if (tabs.leads && !claiming) await askPlace().catch(() => {});
    later(60e3 * (0.9 + 0.2 * Math.random()), attend);
  }

  async function join(): Promise<void> {
    await tabs.alone("join", async () => {
      try {
        const j = await room.join();
        if (j.pass) return go();
        if (!cookiesWork()) return show("cookies_blocked");
        learn({ ...j.place, ticket: j.ticket, state: j.state });
        await poll();
      } catch (e) {
        if (!(e instanceof Problem)) throw e;
        refused(e);
        // A place is still wanted: the limits of the door, or a moment's trouble.
        if (state === "probe") later((e.retryAfterMs || 3000) * (1 + Math.random()), join);
      }
    });
  }

  function cookiesWork(): boolean {
    try {
      return document.cookie.includes("stanchion-js=1");
    } catch {
      return false;
    }
  }

  // turn is when a called fan is told. Whoever looks at the page goes in; whoever does not is told, and is not taken in behind their back.
  function turn(): void {
    if (!calledAt) {
      calledAt = way?.called || now();
      if (way) {
        way.called = calledAt;
        keep();
      }
      offer();
      show("called");
      paint();
      notice(words.say("called.headline"), body.event);
    }
    if (!document.hidden) void claim();
  }

  // offer makes the button and the countdown of the called, unless the server's page has them: a page for browsers that know neither style
  // nor script must not hold a form that cannot help yet.
  function offer(): void {
    if ($("turn")) return;
    const make = (tag: string, cls: string, key = "", id = ""): HTMLElement => {
      const el = document.createElement(tag);
      el.className = cls;
      el.id = id;
      el.textContent = key && words.say(key);
      return el;
    };
    const section = make("section", "turn", "", "turn");
    section.dataset.show = "called door moment";
    section.setAttribute("aria-label", words.say("your_turn"));
    const button = make("button", "primary", "go_in", "enter");
    button.addEventListener("click", () => void claim());
    const left = make("p", "figure", "", "grace");
    left.setAttribute("role", "timer");
    section.append(button, make("p", "label after", "grace"), left, make("p", "small", "grace.late"));
    $("todo").before(section);
    reveal();
  }

  async function claim(): Promise<void> {
    if (claiming || leaving) return;
    claiming = true;
    try {
      await tabs.alone("claim", async () => {
        while (claiming) {
          let p: Problem;
          try {
            await room.claim(body.back);
            publish("in");
            return go();
          } catch (e) {
            p = e instanceof Problem ? e : new Problem("offline", 0, 2000);
          }
          if (p.code === "not-called") {
            calledAt = 0;
            await askPlace();
            show("near");
            return schedule(p.retryAfterMs || 3000);
          }
          if (!p.retryAfterMs) return refused(p);
          $("offline").hidden = p.code !== "offline";
          show(p.code === "room-full" ? "door" : p.code === "offline" ? "called" : "moment");
          await new Promise<void>((done) => later(p.retryAfterMs * (0.8 + 0.4 * Math.random()), done));
        }
      });
    } finally {
      claiming = false;
    }
  }

  function refused(p: Problem): void {
    if (p.code === "room-closed") return show(status?.phase === "sold_out" ? "sold_out" : "ended");
    // The server's page for it offers what can be done now; without the old ticket it comes up once.
    if (REFUSED[p.code] && REFUSED[p.code] !== state) renew();
  }

  // go leads the fan in: the page itself is what they wanted.
  function go(): void {
    leave(() => (location.pathname + location.search === body.back ? location.reload() : location.assign(body.back)));
  }

  // renew has the server say what there is to say.
  const renew = (): void => leave(() => location.reload());

  // leave goes to another page, but never twice within a few seconds, whatever an origin does.
  let leaving = false;
  function leave(how: () => void): void {
    if (leaving) return;
    leaving = true;
    clock.after(20e3, () => {
      leaving = false; // the way was blocked: go on here
      if (LIVE[state]) schedule(0);
    });
    let last = 0;
    try {
      last = Number(sessionStorage.getItem("stanchion-went")) || 0;
      sessionStorage.setItem("stanchion-went", String(Date.now()));
    } catch {
      // then every time
    }
    const wait = Date.now() - last;
    later(wait >= 0 && wait < 4000 ? 4000 : 0, how);
  }

  // --- asking ------------------------------------------------------------------------------------------------------------

  function later(ms: number, job: () => unknown): number {
    return clock.after(ms, () => {
      try {
        const r = job();
        if (r instanceof Promise) r.catch(lost);
      } catch {
        lost();
      }
    });
  }

  let timer = 0;
  let due = 0;
  function schedule(ms: number): void {
    clock.cancel(timer);
    due = Date.now() + ms;
    timer = later(ms, poll);
  }

  async function poll(): Promise<void> {
    clock.cancel(timer);
    timer = 0;
    if (leaving) return;
    try {
      const sent = performance.now();
      const got = await room.status();
      failed = 0;
      $("offline").hidden = true;
      if (!got) return outdated();
      strange = 0;
      if (got !== status) {
        heardAt = (sent + performance.now()) / 2;
        serverAt = got.server_time;
      }
      status = got;
      if (rank === null && status.phase === "waiting" && !lobby && state !== "probe") await askPlace();
      await judge();
      publish();
      if (LIVE[state] && !claiming) schedule(next());
    } catch (e) {
      lost(e);
    }
  }

  // next is when to ask again: as the server tells, and about the opening just after it.
  function next(): number {
    const s = status as Status;
    const ms = nextPoll(s, myLane(), rank, Math.random());
    if (s.phase === "lobby" && opens !== null) return Math.max(1000, Math.min(ms, opens - now() + 1000 + 4000 * Math.random()));
    return ms;
  }

  // lost is a failed request: the page stays as it is and tries again, less and less often.
  function lost(e?: unknown): void {
    failed++;
    if (!(e instanceof Problem) || failed > 2) $("offline").hidden = false;
    const least = e instanceof Problem ? e.retryAfterMs : 0;
    schedule(Math.max(least, Math.min(60e3, 2500 * 2 ** Math.min(failed, 6))) * (0.75 + 0.5 * Math.random()));
  }

  // outdated is an answer that this script does not understand: the server is newer. After a while a new page brings a new script.
  function outdated(): void {
    if (++strange === 3) {
      let last = 0;
      try {
        last = Number(sessionStorage.getItem("stanchion-renewed")) || 0;
        sessionStorage.setItem("stanchion-renewed", String(Date.now()));
      } catch {
        last = Date.now();
      }
      if (!(Math.abs(Date.now() - last) < 600e3)) return location.reload();
    }
    schedule(20e3 * (0.75 + 0.5 * Math.random()));
  }

  // --- several tabs ------------------------------------------------------------------------------------------------------

  function publish(gone?: News["gone"]): void {
    if (status) tabs.tell({ status, at: now(), sent: Date.now(), rank, lane, lobby, gone });
  }

  const tabs = new Tabs<News>(
    "stanchion-" + body.room,
    (n) => {
      if (!LIVE[state] || claiming || (tabs.leads && !n.gone)) return;
      if (n.gone === "in") {
        gone = true;
        return wake();
      }
      status = n.status;
      if (n.rank !== null) rank = n.rank;
      lane = n.lane || lane;
      lobby = n.lobby;
      serverAt = n.at + Math.min(Math.max(Date.now() - n.sent, 0), 60e3);
      heardAt = performance.now();
      $("offline").hidden = true;
      judge().catch(lost);
      schedule(2 * Math.min(300e3, status.poll.max_ms || 60e3) + 10e3); // should the other tab fall silent
    },
    () => tabs.leads && publish(),
    () => LIVE[state] && state !== "probe" && !claiming && schedule(status ? Math.min(1000, due - Date.now()) : 500 * Math.random()),
  );

  // --- the clockwork -----------------------------------------------------------------------------------------------------

  const grace = (Number(body.grace) || 120) * 1000;
  let ticking = false;
  function tick(): void {
    if (ticking || document.hidden || !TICKS[state]) return;
    ticking = true;
    if (state === "lobby" && opens !== null) {
      set("countdown", words.countdown(opens - now()));
      set("opens", words.dayAndClock(opens));
    }
    if (state === "inside" && stay) set("stay", words.countdown(stay - now()));
    if (calledAt) set("grace", words.countdown(grace - (now() - calledAt)));
    clock.after(1000 - (now() % 1000) + 10, () => {
      ticking = false;
      tick();
    });
  }

  // After sleep, a lost network or a hidden time what is shown is old: ask at once, but not all at the same moment.
  function wake(): void {
    if (document.hidden) return;
    if (gone) return go();
    tick();
    if (claiming || !LIVE[state]) return;
    if (calledAt && (state === "called" || state === "door" || state === "moment")) void claim();
    else if (state !== "probe" && Date.now() > due - 1000) schedule(300 * Math.random());
  }
  document.addEventListener("visibilitychange", wake);
  addEventListener("online", () => LIVE[state] && !claiming && state !== "probe" && schedule(2000 * Math.random()));
  addEventListener("offline", () => LIVE[state] && ($("offline").hidden = false));
  addEventListener("pageshow", (e) => e.persisted && LIVE[state] && schedule(0));

  $("enter")?.closest("form")?.addEventListener("submit", (e) => {
    e.preventDefault();
    void claim();
  });
  for (const f of document.querySelectorAll<HTMLFormElement>("form[action$='/leave']")) {
    f.addEventListener("submit", () => {
      try {
        localStorage.removeItem(wayKey);
      } catch {
        // nothing was kept
      }
    });
  }

  $("notify").addEventListener("click", () => {
    want();
    $("notify").hidden = true;
    $("notified").hidden = false;
  });

  const check = $("check") as HTMLButtonElement | null;
  if (check) {
    check.addEventListener("click", async () => {
      check.disabled = true;
      let result = "later";
      try {
        const p = await room.place();
        learn(p);
        result = p.ticket || ticket ? (await verifyPlace(room, body.room, p.ticket || ticket, rank, status?.draw?.value || "")).result : "cannot";
      } catch (e) {
        if (!(e instanceof Problem)) $("offline").hidden = false;
      }
      check.disabled = false;
      const out = $("checked");
      out.className = "checked " + (result === "ok" ? "good" : result === "bad" ? "bad" : "");
      text("checked", words.say("check." + result));
      say(words.say("check." + result), true);
    });
  }

  if (state === "probe") join().catch(() => later(3000 + 3000 * Math.random(), join));
  else if (state === "called" || state === "door" || state === "moment") {
    calledAt = now();
    later(Number(body.retryMs) || 0, () => (document.hidden ? undefined : claim()));
  } else if (LIVE[state]) tabs.ask();
  if (sample) later(60e3 * Math.random(), attend);
  tick();
}

// A page for a browser that has not run this script before comes with a Refresh, in case it never does. stop() takes that back; it would also
// take back what is on its way, so it comes first, when the page is complete.
function first(): void {
  let known = false;
  try {
    known = document.cookie.includes("stanchion-js=1");
  } catch {
    // A frame without cookies.
  }
  if (known) return start();
  const begin = (): void => {
    window.stop();
    start();
  };
  if (document.readyState === "complete") begin();
  else addEventListener("load", () => setTimeout(begin), { once: true });
}

if (!ring()) first();
