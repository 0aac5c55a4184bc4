// Prints the four scores of a page.
import fs from "node:fs";
import lighthouse from "lighthouse";
import { launch } from "chrome-launcher";

const given = JSON.parse(fs.readFileSync(0, "utf8"));
const chrome = await launch({ chromePath: given.chromium, chromeFlags: ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"] });
let low = false;
try {
  const { lhr } = await lighthouse(given.url, { port: chrome.port, skipAudits: ["is-crawlable"], logLevel: "error" });
  console.log(`Lighthouse ${lhr.lighthouseVersion}, ${lhr.configSettings.formFactor}, ${lhr.configSettings.throttlingMethod} throttling`);
  for (const c of Object.values(lhr.categories)) {
    const score = Math.round((c.score ?? 0) * 100);
    low ||= score < given.least;
    console.log(`${c.title}: ${score}`);
    for (const r of c.auditRefs) {
      const a = lhr.audits[r.id];
      if (r.weight > 0 && a?.score !== null && a?.score !== undefined && a.score < 0.9) console.log(`  ${a.id}: ${a.title} ${a.displayValue || ""}`);
    }
  }
  console.log(`layout shift: ${lhr.audits["cumulative-layout-shift"].numericValue}; transferred: ${lhr.audits["total-byte-weight"].numericValue} bytes in ${lhr.audits["network-requests"].details.items.length} requests`);
} finally {
  chrome.kill();
}
process.exitCode = low ? 1 : 0;
