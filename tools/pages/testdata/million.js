// A million ranks, computed by the committed client in the browser, as docs/reference/formats.md ("A million ranks") says.
"use strict";
const fs = require("node:fs");
const assert = require("node:assert/strict");
const { given, run } = require("./browser.js");

run(async (browser) => {
  const m = JSON.parse(fs.readFileSync(given.million, "utf8"));
  const page = await browser.newPage();
  await page.goto(given.base + "/"); // a loopback origin: WebCrypto needs a secure one
  const client = fs.readFileSync(given.client, "utf8");
  const began = Date.now();
  const got = await page.evaluate(
    async ({ client, m }) => {
      const { rankOf } = await import(URL.createObjectURL(new Blob([client], { type: "text/javascript" })));
      let x = m.seed | 0;
      const word = () => {
        x ^= x << 13;
        x ^= x >>> 17;
        x ^= x << 5;
        return x >>> 0;
      };
      const u64 = () => (BigInt(word()) << 32n) | BigInt(word());
      const fill = (n) => {
        const v = new DataView(new ArrayBuffer(n));
        for (let i = 0; i < n; i += 4) v.setUint32(i, word());
        return new Uint8Array(v.buffer);
      };
      const hex = (b) => Array.from(b, (y) => y.toString(16).padStart(2, "0")).join("");
      const line = hex(fill(16));
      const round = u64();
      const randomness = fill(32);
      const bases = [0n];
      for (let i = 0; i < m.windows; i++) bases.push(bases[i] + BigInt(word() % 5000));
      const opening = { room: "onsale", line, lobbyEnd: m.lobby_end, round, randomness };
      const all = new DataView(new ArrayBuffer(8e6));
      for (let i = 0; i < 1e6; ) {
        const batch = [];
        for (let n = 0; n < 1000; n++) {
          const s = { win: word() % 1000, inc: u64(), seq: word(), who: fill(16) };
          batch.push(rankOf(opening, s, (w) => bases[w]));
        }
        for (const r of await Promise.all(batch)) all.setBigUint64(8 * i++, r);
      }
      const digests = [];
      for (const d of m.digests) digests.push(hex(new Uint8Array(await crypto.subtle.digest("SHA-256", all.buffer.slice(0, 8 * d.n)))));
      return { line, round: String(round), digests };
    },
    { client, m },
  );
  assert.equal(got.line, m.line);
  assert.equal(got.round, m.round);
  assert.deepEqual(got.digests, m.digests.map((d) => d.sha256));
  console.log(`${m.digests.at(-1).n} ranks agree, in ${Math.round((Date.now() - began) / 1000)} s`);
});
