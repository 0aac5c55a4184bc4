// Takes the pictures that it is told on its standard input.
"use strict";
const { createRequire } = require("node:module");
const path = require("node:path");
const fs = require("node:fs");

const given = JSON.parse(fs.readFileSync(0, "utf8"));
const { chromium } = createRequire(path.join(given.modules, "x.js"))("playwright-core");

(async () => {
  const browser = await chromium.launch({ executablePath: given.chromium, args: ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"] });
  try {
    const kinds = new Map();
    for (const s of given.shots) {
      const kind = s.width + s.scheme;
      if (!kinds.has(kind)) {
        const context = await browser.newContext({ viewport: { width: Number(s.width) / given.zoom, height: 640 }, deviceScaleFactor: given.zoom, colorScheme: s.scheme, reducedMotion: "reduce" });
        kinds.set(kind, await context.newPage());
      }
      const page = kinds.get(kind);
      await page.goto(s.url, { waitUntil: "load" });
      // How far a fan has come is known to the page's script alone; previews come without it.
      await page.evaluate(() => document.body.dataset.state === "probe" || document.getElementById("rope").style.setProperty("--way", "0.38"));
      await page.screenshot({ path: s.file, fullPage: true });
    }
  } finally {
    await browser.close();
  }
})().catch((e) => {
  console.error(e);
  process.exit(1);
});
