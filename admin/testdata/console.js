// Drives the console in Chromium. Ends with status 1 and the reason if something is not as an operator needs it.
"use strict";
const given = JSON.parse(process.argv[2]);
const { createRequire } = require("node:module");
const path = require("node:path");
const load = createRequire(path.join(given.modules, "x.js"));
const { chromium } = load("playwright-core");
const axe = load.resolve("axe-core/axe.min.js");
const assert = require("node:assert/strict");

const pages = ["/", "/rooms/onsale", "/rooms/members", "/rooms/onsale/settings", "/rooms/onsale/actions/admit-all", "/fleet", "/limits", "/audit", "/you", "/no-such-page"];

(async () => {
  const browser = await chromium.launch({ executablePath: given.chromium, args: ["--no-sandbox"] });
  try {
    const cookies = await signIn(browser);
    await journey(browser, cookies);
    await plain(browser, cookies);
    await looks(browser, cookies);
  } finally {
    await browser.close();
  }
})().catch((e) => {
  console.error(e);
  process.exit(1);
});

async function context(browser, cookies, more) {
  const c = await browser.newContext({ reducedMotion: "reduce", ...more });
  if (cookies) await c.addCookies(cookies);
  return c;
}

// watched fails the test on anything the browser complains of: errors of the script, and what the policy forbids.
async function watched(c) {
  const page = await c.newPage();
  page.complaints = [];
  page.on("pageerror", (e) => page.complaints.push(String(e)));
  page.on("console", (m) => {
    if (m.type() === "error" && !/Failed to load resource/.test(m.text())) page.complaints.push(m.text());
  });
  return page;
}

// told waits until a page says what was done. The notice stands above the rest, which may still be on its way.
async function told(page, text) {
  await page.waitForSelector(`.note:has-text(${JSON.stringify(text)})`);
  await page.waitForLoadState();
}

async function signIn(browser) {
  const c = await context(browser);
  const page = await c.newPage();
  assert.equal((await page.goto(given.base + "/rooms/onsale")).status(), 401);
  await page.goto(given.base + given.login);
  assert.equal(new URL(page.url()).pathname, "/");
  assert.match(await page.textContent("h1"), /Rooms/);
  const cookies = await c.cookies();
  await c.close();
  return cookies;
}

async function journey(browser, cookies) {
  const c = await context(browser, cookies, { viewport: { width: 1440, height: 1000 } });
  const page = await watched(c);
  await page.goto(given.base + "/");
  await page.click("text=onsale");
  await page.waitForSelector("#strip");

  // Live: the age falls below a second and a half again and again; the charts have their hour at once.
  await page.waitForFunction(() => document.title.includes("waiting"));
  const drawn = await page.$eval('path[data-series="waiting"]', (p) => p.getAttribute("d").length);
  assert.ok(drawn > 500, `the chart is nearly empty: ${drawn}`);
  assert.equal(await page.getAttribute("#strip", "data-tone"), "");

  // The shared cursor, by keyboard.
  await page.focus("#cursor");
  for (let i = 0; i < 30; i++) await page.keyboard.press("ArrowLeft");
  assert.match(await page.textContent("#reading"), /Values at \d\d:\d\d:\d\d/);
  await page.keyboard.press("End");
  assert.match(await page.textContent("#reading"), /Newest/);

  // A preview while typing, a change, its notice, its undo.
  await page.fill("#f-rate_per_second", "8");
  await page.waitForFunction(() => document.getElementById("effect").textContent.includes("rate_per_second 5 → 8"));
  assert.match(await page.textContent("#effect"), /At most 480 fans are let in a minute/);
  await page.fill("#f-rate_per_second", "0");
  await page.waitForFunction(() => document.getElementById("effect").textContent.includes("allowed: 0.01 to 100000"));
  await page.fill("#f-rate_per_second", "8");
  await page.fill("#f-reason", "The origin is bored");
  await page.click('#set button[value="apply"]');
  await told(page, "Done:");
  assert.match(await page.textContent(".note"), /rate_per_second 5 → 8/);
  await page.waitForFunction(() => document.querySelector("#marks").textContent.includes("rate_per_second 5 → 8"), null, { timeout: 15000 });
  await page.waitForSelector("line.mark.change", { state: "attached" });
  assert.equal(await page.inputValue("#f-rate_per_second"), "8");
  await page.click('.note button:has-text("Undo")');
  await told(page, "rate_per_second 8 → 5");

  // The emergency stop, by keyboard alone.
  await page.focus('button:has-text("Pause admission")');
  await page.keyboard.press("Enter");
  await told(page, "mode normal → paused");
  await page.waitForFunction(() => document.querySelector('[data-w="phase"]').textContent === "paused");
  await page.click('button:has-text("Resume normal admission")');
  await told(page, "mode paused → normal");

  // Dangerous: two steps by keyboard, and a reason.
  await page.focus('a:has-text("Admit everybody")');
  await page.keyboard.press("Enter");
  await page.waitForSelector('h1:has-text("Admit everybody?")');
  assert.equal(await page.evaluate(() => document.activeElement.id), "reason");
  await page.keyboard.press("Enter"); // without a reason nothing is sent
  assert.match(page.url(), /actions\/admit-all$/);
  await page.keyboard.type("The line is broken");
  await page.keyboard.press("Enter");
  await told(page, "mode normal → admit-all");
  await page.click('.note button:has-text("Undo")');
  await told(page, "mode admit-all → normal");

  // Somebody else's change shows, and a form made before it is refused without losing what was typed.
  const other = await c.newPage();
  await other.goto(given.base + "/rooms/onsale");
  await other.fill("#f-cap", "600");
  await other.fill("#f-reason", "more room");
  await page.fill("#f-cap", "450");
  await page.fill("#f-reason", "less room");
  await other.click('#set button[value="apply"]');
  await told(other, "Done:");
  await page.waitForSelector("#meanwhile:not([hidden])", { timeout: 15000 });
  await page.click('#set button[value="apply"]');
  await page.waitForSelector('[role=alert]:has-text("changed meanwhile")');
  assert.equal(await page.inputValue("#f-cap"), "450");
  assert.equal(await page.inputValue("#f-reason"), "less room");
  await other.close();

  // A silent controller: the page greys out and says how old it is; and it comes back by itself.
  await fetch(given.control + "/stop");
  await page.waitForFunction(() => document.getElementById("strip").dataset.tone === "stale", null, { timeout: 15000 });
  await page.waitForFunction(() => parseFloat(document.querySelector('[data-w="age"]').textContent) > 3);
  await page.screenshot({ path: path.join(given.shots, "stale-1440.png"), fullPage: true });
  await fetch(given.control + "/go");
  await page.waitForFunction(() => document.getElementById("strip").dataset.tone === "", null, { timeout: 15000 });

  // Tables sort.
  await page.goto(given.base + "/limits");
  await page.click('th button:has-text("Limit")');
  await page.waitForSelector('th[aria-sort="ascending"]');
  const keys = await page.$$eval("tbody th", (all) => all.map((th) => th.textContent));
  assert.deepEqual(keys, [...keys].sort((a, b) => a.localeCompare(b, undefined, { numeric: true })));
  await page.fill(".filter input", "members");
  assert.ok((await page.$$("tbody tr:not([hidden])")).length < keys.length);
  assert.deepEqual(page.complaints, []);
  await c.close();
}

// plain does it all again without JavaScript.
async function plain(browser, cookies) {
  const c = await context(browser, cookies.filter((k) => !k.name.endsWith("-js")), { javaScriptEnabled: false, viewport: { width: 768, height: 1000 } });
  const page = await watched(c);
  const answer = await page.goto(given.base + "/rooms/onsale?hold");
  assert.equal(answer.headers().refresh, undefined);
  assert.equal((await page.goto(given.base + "/rooms/onsale")).headers().refresh, "10");
  await page.goto(given.base + "/rooms/onsale?hold");
  assert.notEqual(await page.textContent('[data-w="waiting"]'), "–");
  assert.ok((await page.getAttribute('path[data-series="inside"]', "d")).length > 500);
  await page.fill("#f-message", "We are letting you in more slowly.");
  await page.click('#set button[value="preview"]');
  assert.match(await page.textContent("#effect"), /Everybody in line reads it/);
  assert.equal(await page.inputValue("#f-message"), "We are letting you in more slowly.");
  await page.fill("#f-reason", "say it");
  await page.click('#set button[value="apply"]');
  assert.match(await page.textContent(".note"), /Done:/);
  await page.click('button:has-text("Pause admission")');
  assert.match(await page.textContent(".note"), /mode normal → paused/);
  await page.screenshot({ path: path.join(given.shots, "plain-768.png"), fullPage: true });
  await page.click('.note button:has-text("Undo")');
  assert.match(await page.textContent(".note"), /mode paused → normal/);
  await page.click('a:has-text("End the sale")');
  await page.fill("#reason", "over");
  await page.click('button:has-text("End the sale")');
  assert.match(await page.textContent(".note"), /mode normal → ended/);
  await page.click('.note button:has-text("Undo")');
  await c.close();
}

// looks takes every page in each width and colour scheme, wants no sideways scrolling, and runs axe on it.
async function looks(browser, cookies) {
  for (const colorScheme of ["light", "dark"])
    for (const width of [360, 768, 1440]) {
      const c = await context(browser, cookies, { colorScheme, viewport: { width, height: 900 } });
      const page = await watched(c);
      for (const at of pages) {
        await page.goto(given.base + at);
        if (at === "/rooms/onsale") await page.waitForFunction(() => document.title.includes("waiting"));
        const over = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
        const name = `${at.slice(1).replaceAll("/", "-") || "home"}-${width}-${colorScheme}.png`;
        await page.screenshot({ path: path.join(given.shots, name), fullPage: true });
        assert.ok(over <= 0, `${at} is ${over} px too wide at ${width}`);
        if (width === 768) continue; // axe judges the narrowest and the widest
        await page.evaluate(require("node:fs").readFileSync(axe, "utf8")); // the page's policy forbids other ways in
        const found = await page.evaluate(() => axe.run(document, { resultTypes: ["violations"] }));
        assert.deepEqual(found.violations.map((v) => `${at} ${width} ${colorScheme} ${v.id}: ${v.nodes.map((n) => n.target + " " + n.failureSummary).join("; ")}`), []);
      }
      assert.deepEqual(page.complaints, []);
      await c.close();
    }
}
