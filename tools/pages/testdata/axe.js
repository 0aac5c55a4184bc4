// Judges every state with axe: light and dark, left to right and right to left, without JavaScript (the previews) and with it (the live page).
"use strict";
const assert = require("node:assert/strict");
const { axe, given, run, set } = require("./browser.js");

async function judge(page, what) {
  await page.addScriptTag({ path: axe }).catch(async () => page.evaluate(require("node:fs").readFileSync(axe, "utf8")));
  const found = await page.evaluate(() => axe.run({ resultTypes: ["violations"] }));
  for (const v of found.violations) console.error(`${what}: ${v.id}: ${v.help}\n  ${v.nodes.map((n) => n.target + " " + (n.any[0]?.message || "")).join("\n  ")}`);
  return found.violations.length;
}

run(async (browser) => {
  let judged = 0;
  let violations = 0;
  for (const colorScheme of ["light", "dark"]) {
    const c = await browser.newContext({ colorScheme, reducedMotion: "reduce", bypassCSP: true, viewport: { width: 360, height: 640 } });
    const page = await c.newPage();
    for (const lang of ["en", "ar", "de"]) {
      for (const state of given.states) {
        await page.goto(`${given.previews}/${lang}/${state}`);
        assert.equal(await page.locator("h1").count(), 1);
        const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
        assert.ok(wide <= 0, `${lang} ${state}: scrolls sideways by ${wide} px`);
        for (const box of await page.locator("button:visible, a:visible, select:visible, summary:visible").all()) {
          const b = await box.boundingBox();
          assert.ok(b.height >= 44, `${lang} ${state}: a target of ${b.height} px: ${await box.textContent()}`);
        }
        violations += await judge(page, `${colorScheme} ${lang} ${state}`);
        judged++;
      }
    }
    await c.close();

    // The live page, as the script leaves it.
    for (const locale of ["en", "he"]) {
      const live = await browser.newContext({ colorScheme, reducedMotion: "reduce", bypassCSP: true, locale, viewport: { width: 360, height: 640 } });
      const p = await live.newPage();
      await set({ called: 1200, message: "There are still seats." });
      await p.goto(given.base + "/gala");
      await p.waitForSelector('body[data-state="waiting"]');
      for (const [state, scene] of Object.entries({
        waiting: { called: 1201 },
        near: { called: 59950 },
        paused: { phase: "paused" },
        draining: { phase: "draining" },
        sold_out: { phase: "sold_out" },
        maintenance: { phase: "maintenance" },
        lobby: { phase: "lobby", opens_in_ms: 90000 },
        drawing: { phase: "drawing" },
        door: { called: 139000, refuse: "room-full" },
        moment: { called: 139000, refuse: "one-moment" },
        ended: { phase: "ended" },
      })) {
        await set(scene);
        await p.waitForSelector(`body[data-state="${state}"]`, { timeout: 10000 });
        violations += await judge(p, `live ${colorScheme} ${locale} ${state}`);
        judged++;
        if (state === "moment") {
          // A claim goes on at the door until it is refused for good or met.
          await set({ phase: "paused", refuse: "", called: 0 });
          await p.waitForSelector('body[data-state="paused"], body[data-state="near"], body[data-state="waiting"]', { timeout: 10000 });
        }
      }
      await live.close();
    }
  }
  console.log(`${judged} pages judged, ${violations} violations`);
  assert.equal(violations, 0);
});
