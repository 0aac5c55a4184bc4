// A fan's ways through the page.
"use strict";
const assert = require("node:assert/strict");
const { given, run, set } = require("./browser.js");

const journeys = {
  // Without JavaScript the page renews itself, gives a place, speaks the fan's language and lets the called in.
  async "without JavaScript"(browser) {
    const { page } = await fan(browser, { javaScriptEnabled: false, locale: "fr" });
    await set({ called: 1200 });
    await page.goto(given.base + "/gala");
    assert.equal(await page.textContent("h1"), "Nous prenons votre place");
    await page.waitForFunction(() => document.body.dataset.state === "waiting", null, { timeout: 8000 });
    assert.match(await page.textContent("dd.big"), /environ\s*58.\d00/);
    assert.ok(await page.locator("noscript").isVisible());
    assert.ok(!(await page.locator("#rope").isVisible()) && !(await page.locator("#tell").isVisible()));
    await page.selectOption("#lang", "de");
    await page.click(".lang button");
    assert.equal(await page.textContent("h1"), "Du stehst in der Warteschlange. Dein Platz ist sicher.");
    assert.equal(new URL(page.url()).pathname, "/gala");
    await page.click("summary");
    await set({ called: 139000 });
    await page.goto(given.base + "/gala");
    assert.equal(await page.textContent("h1"), "The shop");
  },

  async "waits, sees the line move and goes in"(browser) {
    const { page, asked } = await fan(browser, { timezoneId: "Asia/Tokyo" });
    await set({ called: 1200, message: 'Seats left. <script>alert(1)</script> <img src=x onerror="alert(1)">' });
    await waiting(page);
    const place = await page.textContent("#place");
    await page.evaluate(() => (window.sameOne = true));
    await page.waitForTimeout(3000);
    assert.ok(await page.evaluate(() => window.sameOne), "the Refresh for browsers without script was followed");
    assert.equal(await page.textContent("#ahead"), "58,900");
    assert.match(await page.textContent("#when"), /^About \d+:\d\d\s?[AP]M ?–|^About \d+:\d\d/);
    assert.match(await page.title(), /about 58,900 people ahead of you – The Gala/);
    await page.waitForSelector("text=<script>alert(1)</script>");
    await shifts(page);
    await set({ called: 31200, cause: "slower-core" });
    await page.waitForFunction(() => document.getElementById("ahead").textContent === "28,900");
    assert.ok(await page.locator("#cause").isVisible());
    const done = await page.evaluate(() => 100 * document.getElementById("rope").style.getPropertyValue("--way"));
    assert.ok(done > 50 && done < 52, `${done}% done`);
    await set({ called: 30000 }); // a server that goes back
    await polls(asked, 2);
    assert.equal(await page.textContent("#ahead"), "28,900");
    await set({ called: 31300, lie: true }); // a place that grows
    await page.reload();
    await page.waitForFunction((place) => document.getElementById("place").textContent === place, place);
    await set({ called: 60050 });
    await page.waitForSelector('body[data-state="near"]');
    await set({ called: 139000 });
    await page.waitForSelector("h1:has-text('The shop')");
  },

  async "numbers change without a shift, and cost next to nothing"(browser) {
    const { page, asked, context } = await fan(browser);
    await set({ called: 1200 });
    await waiting(page);
    await page.waitForTimeout(600);
    const look = await shifts(page);
    const cdp = await context.newCDPSession(page);
    await cdp.send("Performance.enable");
    const busy = async () => (await cdp.send("Performance.getMetrics")).metrics.find((m) => m.name === "TaskDuration").value;
    for (const called of [1900, 9100, 40000, 58200]) {
      await set({ called });
      await polls(asked, 2);
    }
    assert.equal(await look(), 0, "moved: " + (await page.evaluate(() => window.moved.join("; "))));
    await set({ called: 2000, max_ms: 60000, per_second: 0.01 });
    await polls(asked, 1);
    const before = await busy();
    const began = Date.now();
    await page.waitForTimeout(20000);
    const share = (await busy() - before) / ((Date.now() - began) / 1000);
    assert.ok(share < 0.01, `CPU ${share}`);
    console.log(`CPU of a waiting page: ${(share * 100).toFixed(2)}%`);
  },

  // The same polls as told, with jitter, and none where nothing can change.
  async "asks as it is told"(browser) {
    const { page, asked } = await fan(browser);
    await set({ called: 1200, min_ms: 2000, max_ms: 2000 });
    await waiting(page);
    const at = [];
    while (at.length < 5) {
      const n = asked.status;
      await polls(asked, 1);
      if (asked.status > n) at.push(Date.now());
    }
    const gaps = at.slice(1).map((t, i) => t - at[i]);
    assert.ok(gaps.every((g) => g > 1500 && g < 3200), `gaps ${gaps}`);
    assert.ok(new Set(gaps).size > 1);
    assert.ok(asked.bytes < 1024, `a poll has ${asked.bytes} bytes`);
    await set({ phase: "ended" });
    await page.waitForSelector('body[data-state="ended"]');
    const n = asked.status;
    await page.waitForTimeout(4500);
    assert.equal(asked.status, n);
  },

  async "several tabs share one place, and one asks"(browser) {
    const { page: a, asked: of, context } = await fan(browser);
    const { joins } = await set({ called: 1200 });
    const b = await context.newPage();
    const ofB = count(b);
    await Promise.all([a.goto(given.base + "/gala"), b.goto(given.base + "/gala")]);
    await a.waitForSelector('body[data-state="waiting"]');
    await b.waitForSelector('body[data-state="waiting"]');
    assert.equal((await set({ called: 1300 })).joins, joins + 1);
    assert.equal(await a.textContent("#place"), await b.textContent("#place"));
    await a.waitForTimeout(1500);
    const [x, y] = [of.status, ofB.status];
    await a.waitForTimeout(6000);
    const rise = [of.status - x, ofB.status - y];
    assert.ok(Math.min(...rise) === 0 && Math.max(...rise) >= 2, `polls ${rise}`);
    await set({ called: 21300 });
    for (const p of [a, b]) await p.waitForFunction(() => document.getElementById("ahead").textContent === "38,800");
    // The tab that asks is closed: the other takes over.
    const [leader, other, seen] = rise[0] > 0 ? [a, b, ofB] : [b, a, of];
    await leader.close();
    await polls(seen, 2);
    await set({ called: 41300 });
    await other.waitForFunction(() => document.getElementById("ahead").textContent === "18,800");
  },

  async "a hidden tab is told, and goes in when it is looked at"(browser) {
    const { page } = await fan(browser);
    await page.addInitScript(() => {
      window.hiddenNow = false;
      Object.defineProperty(Document.prototype, "hidden", { get: () => window.hiddenNow });
    });
    await set({ called: 1200 });
    await waiting(page);
    await page.click("#notify");
    assert.ok(await page.locator("#notified").isVisible());
    await page.evaluate(() => (window.hiddenNow = true));
    await set({ called: 139000 });
    await page.waitForSelector('body[data-state="called"]');
    assert.match(await page.title(), /^● It is your turn/);
    await page.waitForTimeout(2500);
    assert.equal(await page.textContent("#enter"), "Go in now");
    await page.evaluate(() => {
      window.hiddenNow = false;
      document.dispatchEvent(new Event("visibilitychange"));
    });
    await page.waitForSelector("h1:has-text('The shop')");
  },

  async "a lost network loses nothing"(browser) {
    const { page, context, asked } = await fan(browser);
    await set({ called: 1200 });
    await waiting(page);
    const place = await page.textContent("#place");
    await context.setOffline(true);
    await page.waitForSelector("#offline:visible");
    assert.equal(await page.textContent("#place"), place);
    await set({ called: 11200 });
    await context.setOffline(false);
    await page.waitForSelector("#offline", { state: "hidden", timeout: 15000 });
    await page.waitForFunction(() => document.getElementById("ahead").textContent === "48,900");
    // Sleep: the timers are late, and the page asks as soon as it wakes.
    await set({ called: 1200, min_ms: 1000, max_ms: 300000, per_second: 0.001 });
    await polls(asked, 1);
    const n = asked.status;
    await page.evaluate(() => {
      const real = Date.now;
      Date.now = () => real() + 3600e3;
      document.dispatchEvent(new Event("visibilitychange"));
    });
    await page.waitForTimeout(1500);
    assert.ok(asked.status > n);
  },

  async "the device's clock is wrong by a day"(browser) {
    for (const day of [-86400e3, 86400e3]) {
      const { page, context } = await fan(browser, { timezoneId: "UTC" });
      await page.addInitScript((day) => {
        const Real = Date;
        globalThis.Date = class extends Real {
          constructor(...a) {
            super(...(a.length ? a : [Real.now() + day]));
          }
          static now() {
            return Real.now() + day;
          }
        };
      }, day);
      await set({ phase: "lobby", opens_in_ms: 90000, lobby: true });
      await page.goto(given.base + "/gala");
      await page.waitForSelector('body[data-state="lobby"]');
      await page.waitForFunction(() => /^1:[012]\d$/.test(document.getElementById("countdown").textContent));
      await set({ called: 0, drawn: true, lobby: true });
      await page.waitForSelector('body[data-state="waiting"], body[data-state="near"]', { timeout: 10000 });
      const shown = await page.textContent("#when");
      const told = shown.match(/(\d+):(\d\d)\s?([AP]M)?/);
      if (told) {
        const minutes = (Number(told[1]) % 12) * 60 + Number(told[2]);
        const now = new Date();
        const off = (minutes - ((now.getUTCHours() % 12) * 60 + now.getUTCMinutes()) + 720) % 720;
        assert.ok(off < 120, `${shown}, at ${now.toISOString()}`);
      }
      await context.close();
    }
  },

  async "storage and cookies are blocked"(browser) {
    const { page } = await fan(browser);
    await page.addInitScript(() => {
      for (const s of ["localStorage", "sessionStorage"]) {
        Object.defineProperty(window, s, {
          get() {
            throw new DOMException("blocked", "SecurityError");
          },
        });
      }
    });
    await set({ called: 1200 });
    await waiting(page);
    assert.equal(await page.textContent("#ahead"), "58,900");
    const { page: other } = await fan(browser);
    await other.addInitScript(() => Object.defineProperty(Document.prototype, "cookie", { get: () => "", set() {} }));
    await other.goto(given.base + "/gala");
    await other.waitForSelector('body[data-state="cookies_blocked"]');
  },

  async "absurd and unknown answers are survived"(browser) {
    const { page, asked } = await fan(browser);
    await set({ called: 1200 });
    await waiting(page);
    const at = new Date().toISOString();
    const lane = { name: "general", called: 1e300, total: -5, per_minute: "many", eta: { kind: "sample", per_second: 1e-300, low: 1e308, high: -1, block_size: 0, present: "!!!", cause: "<b>" } };
    for (const raw of [
      "[]", "null", "{}", "nonsense", '"x"',
      JSON.stringify({ phase: "galactic", server_time: at, lanes: null }),
      JSON.stringify({ phase: "waiting", server_time: "yesterday", lanes: [lane] }),
      JSON.stringify({ phase: "waiting", line: "a1b2c300000000000000000000000000", server_time: at, lanes: [{ ...lane, called: -1e300 }], poll: { min_ms: -1, max_ms: 1e99, spread: 1e9 }, message: { a: 1 } }),
      JSON.stringify({ phase: "waiting", line: "a1b2c300000000000000000000000000", server_time: at, lanes: [], message: "x".repeat(1e5) }),
    ]) {
      await set({ raw });
      await page.evaluate(() => dispatchEvent(new Event("online")));
      await polls(asked, 1);
      await page.waitForTimeout(150);
      assert.ok(await page.locator("h1").isVisible());
      assert.equal(await page.textContent("#place"), "60,102".length ? await page.textContent("#place") : "");
      assert.ok(!/NaN|Infinity|undefined|null|\[object/.test(await page.textContent("main")), raw.slice(0, 80));
    }
  },

  async "checks the draw and its own place"(browser) {
    for (const lobby of [true, false]) {
      const { page, context } = await fan(browser);
      await set({ called: 0, drawn: true, lobby });
      await waiting(page, true);
      await page.click("#check");
      await page.waitForSelector(".checked.good");
      assert.match(await page.textContent("#checked"), /your place follows from the public record/);
      await set({ called: 0, drawn: true, lobby, lie: true });
      await page.evaluate(() => localStorage.clear());
      await page.reload();
      await page.click("#check");
      await page.waitForSelector(".checked.bad");
      const record = await page.request.get(new URL(await page.getAttribute("a.quiet", "href"), given.base).href);
      assert.ok((await record.json()).record.sig);
      await context.close();
    }
  },

  async "what is refused is explained, with a way on"(browser) {
    const { page } = await fan(browser);
    await set({ called: 1200 });
    await waiting(page);
    await set({ called: 139000, refuse: "place-spent", place: "" });
    await page.waitForSelector("h1:has-text('This place has been used')", { timeout: 15000 });
    assert.ok(await page.locator("button.primary:has-text('Take a new place')").isVisible());
    await set({ called: 1200 });
    await page.click("button.primary");
    await page.waitForSelector('body[data-state="waiting"]', { timeout: 15000 });
  },

  async "by keyboard alone, at 200%"(browser) {
    const { page } = await fan(browser, { viewport: { width: 320, height: 400 } });
    await set({ called: 1200 });
    await waiting(page);
    const reached = [];
    for (let i = 0; i < 12; i++) {
      await page.keyboard.press("Tab");
      reached.push(await page.evaluate(() => document.activeElement.id || document.activeElement.textContent.trim()));
    }
    for (const want of ["notify", "Give up my place", "check", "Public record of this line", "lang", "Change"]) assert.ok(reached.includes(want), `${want} in ${reached}`);
    assert.ok((await page.evaluate(() => document.documentElement.scrollWidth)) <= 320);
  },
};

async function fan(browser, options = {}) {
  const context = await browser.newContext({ locale: "en-US", viewport: { width: 360, height: 740 }, ...options });
  const page = await context.newPage();
  return { context, page, asked: count(page) };
}

// count counts polls, and fails on anything the browser complains of.
function count(page) {
  const asked = { status: 0, bytes: 0 };
  page.on("requestfinished", async (r) => {
    if (!r.url().endsWith("/status")) return;
    asked.status++;
    asked.bytes = Math.max(asked.bytes, (await r.sizes().catch(() => ({ responseBodySize: 0 }))).responseBodySize);
  });
  page.on("pageerror", (e) => complaints.push(String(e)));
  page.on("console", (m) => {
    if (m.type() === "error" && !/Failed to load resource/.test(m.text())) complaints.push(m.text());
  });
  page.on("dialog", (d) => complaints.push("dialog: " + d.message()));
  return asked;
}
const complaints = [];

async function polls(asked, n) {
  const until = asked.status + n;
  for (let i = 0; i < 600 && asked.status < until; i++) await new Promise((done) => setTimeout(done, 25));
  assert.ok(asked.status >= until, "no poll came");
}

async function waiting(page, near) {
  await page.goto(given.base + "/gala");
  await page.waitForSelector(near ? 'body[data-state="waiting"], body[data-state="near"]' : 'body[data-state="waiting"]');
  await page.waitForFunction(() => document.getElementById("ahead").textContent !== "–");
}

// shifts counts layout shifts from now on.
async function shifts(page) {
  await page.evaluate(() => {
    window.shifted = 0;
    window.moved = [];
    new PerformanceObserver((l) => {
      for (const e of l.getEntries()) {
        window.shifted += e.value;
        for (const s of e.sources) window.moved.push((s.node?.id || s.node?.className || s.node?.nodeName) + " " + Math.round(s.previousRect.y) + " to " + Math.round(s.currentRect.y));
      }
    }).observe({ type: "layout-shift" });
  });
  return () => page.evaluate(() => window.shifted);
}

run(async (browser) => {
  for (const [name, journey] of Object.entries(journeys)) {
    if (process.env.JOURNEY && !new RegExp(process.env.JOURNEY).test(name)) continue;
    const began = Date.now();
    await set({});
    try {
      await journey(browser);
      assert.deepEqual(complaints, []);
    } catch (e) {
      console.error(`--- ${name}`);
      for (const p of browser.contexts().flatMap((c) => c.pages())) console.error(p.url(), await p.evaluate(() => document.body.innerText.slice(0, 300)).catch(String));
      throw e;
    }
    for (const c of browser.contexts()) await c.close();
    console.log(`ok ${name} (${((Date.now() - began) / 1000).toFixed(1)} s)`);
  }
});
