// The same way with JavaScript switched off: pages that renew themselves, and seats from the list.
"use strict";
const { journey, step, until, state, comeIn, hindmost, pay, inHand, base, fail } = require("./lib");

journey(async ({ fan }) => {
  const [page, places] = await hindmost(fan, async (p) => {
    await p.goto(base + "/");
    await p.getByRole("link", { name: "Gala at the theatre" }).click();
    await until("the lobby", async () => (await state(p)) === "lobby");
  }, { javaScriptEnabled: false }, async (p) => {
    // Without scripts it says what was left when the page was sent; the page comes again by itself.
    const shown = await p.locator("#countdown").textContent();
    if (!/^\d+:\d\d$/.test(shown.trim())) fail(`the countdown says ${shown}`);
    await step(p, "lobby", { check: false });
    // The front page, which nobody waits for, is looked at meanwhile.
    const front = await fan({ javaScriptEnabled: false });
    await front.goto(base + "/");
    await step(front, "what-is-on", { check: false });
    await front.context().close();
  });
  await step(page, "in-line", { check: false, narrow: false });
  await comeIn(page, places);

  await step(page, "seats");
  await page.locator("#list").getByRole("link", { name: /^Stalls/ }).click();
  await page.getByRole("group", { name: /^Row L/ }).waitFor();
  await step(page, "seats-listed");
  const free = page.getByRole("group", { name: /^Row L/ }).locator("input:enabled");
  await free.nth(2).check();
  await free.nth(3).check();
  await step(page, "seats-chosen", { check: false });
  await page.getByRole("button", { name: "Keep these seats" }).click();

  await page.getByRole("heading", { name: "Check and pay" }).waitFor();
  await step(page, "check");
  await page.getByRole("button", { name: "I need more time" }).click();
  await page.getByRole("heading", { name: "Check and pay" }).waitFor();
  await page.getByRole("button", { name: /^Pay / }).click();
  await page.getByLabel("Card number").waitFor();
  await step(page, "provider", { check: false });
  await pay(page);
  const report = await inHand(page, places);
  await step(page, "tickets");
  return report;
});
