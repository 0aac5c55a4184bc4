// What the journeys have in common: a browser, a picture and an accessibility check of every step, and the waiting room.
"use strict";
const { chromium } = require("playwright-core");
const fs = require("fs");
const path = require("path");
const axe = fs.readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

const need = (name) => process.env[name] || fail(`${name} is not set`);
const fail = (text) => { throw new Error(text); };
exports.fail = fail;
exports.base = need("JOURNEY_BASE");
exports.console = process.env.JOURNEY_CONSOLE;
exports.login = process.env.JOURNEY_LOGIN;
const out = need("JOURNEY_OUT");

const WIDE = { width: 1440, height: 900 }, NARROW = { width: 360, height: 740 };

// journey runs walk and prints what it returns as the last line. Every error on a page, and every request of ours that fails, ends it.
exports.journey = async (walk) => {
  const browser = await chromium.launch({ executablePath: need("STANCHION_TEST_CHROMIUM"), args: ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"] });
  const troubles = [], pages = [];
  let report;
  try {
    report = await walk({
      // fan opens a browser of its own: own cookies, own storage.
      fan: async (options = {}) => {
        const context = await browser.newContext({ viewport: WIDE, locale: "en-GB", ...options });
        const page = await context.newPage();
        pages.push(page);
        page.scriptless = options.javaScriptEnabled === false;
        page.setDefaultTimeout(30000);
        page.on("pageerror", (e) => troubles.push(`${page.url()}: ${e.message}`));
        page.on("console", (m) => {
          // The browser itself remarks on every refusal; those that a journey provokes are expected, and so are a page without an icon and a claim that comes too early.
          if (m.type() !== "error" || /status of (402|404|409|422|503)/.test(m.text()) && (expected.has(new URL(m.location().url).pathname) || /\/claim$|favicon/.test(m.location().url))) return;
          troubles.push(`${page.url()}: ${m.text()} ${m.location().url}`);
        });
        return page;
      },
    });
    if (troubles.length) fail("the pages complained:\n" + troubles.join("\n"));
  } catch (e) {
    const open = pages.filter((p) => !p.isClosed());
    await Promise.all(open.map((p, i) => p.screenshot({ path: path.join(out, `failed-${i + 1}.png`), fullPage: true, timeout: 5000 }).catch(() => {})));
    console.error(e.stack || e, "\nopen pages:", open.map((p) => p.url()).join(" "), troubles.length ? "\n" + troubles.join("\n") : "");
    process.exitCode = 1;
  }
  await browser.close();
  console.log(JSON.stringify(report ?? {}));
};

// expect names a path that a journey provokes a refusal of.
const expected = new Set();
exports.expect = (url) => expected.add(new URL(url).pathname);

let steps = 0;

// step takes pictures of a page at both sizes, and holds it to axe in light and in dark. live pages are pictured as they are at one
// moment: what changes meanwhile is the point of them.
exports.step = async (page, name, { narrow = true, check = true } = {}) => {
  const number = String(++steps).padStart(2, "0");
  const picture = (size) => page.screenshot({ path: path.join(out, `${number}-${name}-${size}.png`), fullPage: true });
  await picture(1440);
  if (check) for (const colorScheme of ["light", "dark"]) {
    await page.emulateMedia({ colorScheme });
    page.scheme = colorScheme;
    await accessible(page, `${name} (${colorScheme})`);
  }
  if (narrow) {
    await page.setViewportSize(NARROW);
    await picture("360-dark");
    if (check) await accessible(page, `${name} (360 px, dark)`);
    await overflow(page, name);
    await page.emulateMedia({ colorScheme: "light" });
    await picture(360);
    await page.setViewportSize(WIDE);
  }
  await page.emulateMedia({ colorScheme: "light" });
  console.log(`${number} ${name}`);
};

// accessible holds a page to axe. axe is a script, so a page of a browser without scripts is opened once more in one that has
// them, but loads none of the page's own.
async function accessible(page, name) {
  if (page.scriptless) {
    const context = await page.context().browser().newContext({ viewport: page.viewportSize(), colorScheme: page.scheme, storageState: await page.context().storageState() });
    await context.route("**/*.js", (route) => route.abort());
    const twin = await context.newPage();
    await twin.goto(page.url());
    await accessible(twin, name);
    await context.close();
    return;
  }
  await page.evaluate(axe); // the debugger may, whatever the page's own policy says
  const found = await page.evaluate(async () => (await globalThis.axe.run(document, { resultTypes: ["violations"] })).violations
    .map((v) => `${v.id} (${v.impact}, ${v.nodes.length}×): ${v.nodes[0].html.slice(0, 200)}\n    ${v.nodes[0].failureSummary}`));
  if (found.length) fail(`axe on ${name}, ${page.url()}:\n  ${found.join("\n  ")}`);
}
exports.accessible = accessible;

// overflow fails when a page is wider than the screen.
async function overflow(page, name) {
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  if (wide > 0) fail(`${name} is ${wide} px wider than the screen`);
}

// until waits for f to be true; pages are asked again and again, because without scripts nothing else tells of a change.
exports.until = async (what, f, seconds = 40) => {
  const end = Date.now() + seconds * 1000;
  for (;;) {
    const v = await f().catch((e) => { if (/closed|crashed/.test(String(e))) throw e; return false; }); // a page that is being left
    if (v) return v;
    if (Date.now() > end) fail(`waited ${seconds} s for ${what}`);
    await new Promise((r) => setTimeout(r, 40));
  }
};

// state is where a fan stands in the waiting room: lobby, drawing, waiting, near, called, …; "shop" when let in.
exports.state = (page) => page.evaluate(() => document.getElementById("pick") ? "shop" : document.body.dataset.state ?? "");

// ahead is the number of people ahead that the page shows, null if none is shown.
exports.ahead = (page) => page.evaluate(() => {
  const el = document.getElementById("ahead");
  if (!el || !el.offsetParent) return null;
  const digits = el.textContent.replace(/\D/g, "");
  return digits === "" ? null : Number(digits);
});

// comeIn waits in line until the shop's page is there, noting every number of people ahead on the way.
exports.comeIn = async (page, places = []) => {
  let pressed = 0;
  await exports.until("being let in", async () => {
    const s = await exports.state(page);
    if (s === "shop") return true;
    const n = await exports.ahead(page);
    if (n !== null && n !== places[places.length - 1]) places.push(n);
    // The page goes in by itself; whoever presses the button gains a moment.
    if (s === "called" && Date.now() - pressed > 5000) {
      pressed = Date.now();
      await page.locator("#enter").click({ timeout: 1000 }).catch(() => {});
    }
    return false;
  }, 90);
  return places;
};

// hindmost joins the room with several fans and goes on with the one whom the draw put furthest back. It gives that fan's page and
// the numbers of people ahead that it showed so far. inLobby is done with the first fan's page meanwhile.
exports.hindmost = async (fan, entry, options, inLobby) => {
  const all = await Promise.all([1, 2, 3, 4].map(() => fan(options)));
  await Promise.all(all.map(entry));
  let enough = false;
  const watched = Promise.all(all.map(async (p) => {
    const places = [];
    await exports.until("the draw", async () => {
      const n = ["shop", "called", "door", "moment"].includes(await exports.state(p)) ? 0 : await exports.ahead(p);
      if (n !== null && n !== places[places.length - 1]) places.push(n);
      return enough && places.length > 0;
    }, 60);
    return places;
  }));
  watched.catch(() => {}); // heard below; the lobby's own trouble comes first
  await inLobby(all[0]);
  enough = true;
  const places = await watched;
  const last = places.reduce((best, p, i) => p[0] > places[best][0] ? i : best, 0);
  await Promise.all(all.map((p, i) => i === last ? null : p.context().close()));
  return [all[last], places[last]];
};

// pay fills the provider's page in.
exports.pay = async (page, card = "4242 4242 4242 4242") => {
  await page.getByLabel("Card number").fill(card);
  await page.getByLabel("Valid until").fill("12/34");
  await page.getByLabel("Security code").fill("123");
  await page.getByRole("button", { name: /^Pay / }).click();
};

// inHand reports the tickets on the order's page.
exports.inHand = async (page, places = []) => {
  await page.getByRole("heading", { name: "Your tickets", level: 1 }).waitFor();
  const seats = await page.locator(".tickets .seatname").allTextContents();
  const tickets = await page.locator(".tickets a.qr").evaluateAll((as) => as.map((a) => a.href.replace("?", ".png?")));
  return { Places: places, Seats: seats, Tickets: tickets, Order: page.url() };
};
