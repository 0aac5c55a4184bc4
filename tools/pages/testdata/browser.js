// What the browser tests share.
"use strict";
const { createRequire } = require("node:module");
const path = require("node:path");
const fs = require("node:fs");

const given = JSON.parse(fs.readFileSync(0, "utf8"));
const load = createRequire(path.join(given.modules, "x.js"));
const { chromium } = load("playwright-core");

exports.given = given;
exports.axe = load.resolve("axe-core/axe.min.js");

exports.run = async (job) => {
  const browser = await chromium.launch({ executablePath: given.chromium, args: ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"] });
  try {
    await job(browser);
  } catch (e) {
    console.error(e);
    process.exitCode = 1;
  } finally {
    await browser.close();
  }
};

// set changes what the room does.
exports.set = async (scene) => {
  const r = await fetch(given.base + "/control", { method: "POST", body: JSON.stringify({ phase: "waiting", per_second: 4, min_ms: 1000, max_ms: 2000, ...scene }) });
  if (!r.ok) throw new Error("control: " + (await r.text()));
  return r.json();
};
