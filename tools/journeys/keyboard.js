// The same way with nothing but a keyboard, and always seeing where one is.
"use strict";
const { journey, step, until, state, inHand, base, fail } = require("./lib");

journey(async ({ fan }) => {
  const page = await fan();
  const active = () => page.evaluate(() => {
    const el = document.activeElement;
    if (!el || el === document.body) return { name: "" };
    const style = getComputedStyle(el), after = getComputedStyle(el, "::after"), next = el.nextElementSibling && getComputedStyle(el.nextElementSibling);
    const halo = el.querySelector?.(".halo");
    const seen = [style, after, next].some((s) => s && s.outlineStyle !== "none" && parseFloat(s.outlineWidth) >= 2) || (halo && getComputedStyle(halo).stroke !== "none");
    return { name: (el.getAttribute("aria-label") || el.labels?.[0]?.textContent || el.textContent || el.name || "").trim().replace(/\s+/g, " "), tag: el.tagName, id: el.id, seen: Boolean(seen) || el.id === "main" };
  });
  // tabTo presses Tab until something with this name has the focus; every stop on the way must be visible.
  const tabTo = async (name, most = 60) => {
    for (let i = 0; i < most; i++) {
      const a = await active();
      if (a.name && name.test(a.name)) return a;
      await page.keyboard.press("Tab");
      const b = await active();
      if (b.name && !b.seen) fail(`the focus on ${b.tag} "${b.name.slice(0, 60)}" cannot be seen at ${page.url()}`);
    }
    return fail(`Tab never comes to ${name} at ${page.url()}`);
  };
  const press = (...keys) => keys.reduce((p, k) => p.then(() => page.keyboard.press(k)), Promise.resolve());

  await page.goto(base + "/");
  await tabTo(/^Skip to the content/);
  await press("Enter");
  await tabTo(/^Gala at the theatre/);
  await press("Enter");
  await until("being let in", async () => {
    const s = await state(page);
    if (["called", "door", "moment"].includes(s) && (await active()).id !== "enter") await tabTo(/^(Go in|Come in|Enter)/i, 20);
    if ((await active()).id === "enter") await press("Enter");
    return s === "shop";
  });
  await page.locator("#map .seat").first().waitFor();

  await tabTo(/^How many/);
  await press("2");
  await tabTo(/^Stalls, row/);
  await press("ArrowDown", "ArrowDown", "ArrowDown", "Home", "ArrowRight", "ArrowRight", "ArrowRight");
  const on = await active();
  if (!/row D, seat 4/.test(on.name)) fail(`the arrows led to ${on.name}`);
  await press("Space");
  await until("two seats", async () => (await page.locator("#choice li").count()) === 2);
  await step(page, "seats-chosen", { check: false });
  // Let one go by its chip, and take it again on the map.
  await tabTo(/^Let go Row D, 4/, 200);
  await press("Enter");
  await until("one seat", async () => (await page.locator("#choice li").count()) === 1);
  await press("Shift+Tab");
  for (let i = 0; i < 200 && !/^Stalls, row D/.test((await active()).name); i++) await press("Shift+Tab");
  await press("Enter");
  await until("two seats again", async () => (await page.locator("#choice li").count()) === 2);
  await tabTo(/^Keep these seats/, 200);
  await press("Enter");

  await page.getByRole("heading", { name: "Check and pay" }).waitFor();
  await tabTo(/^Pay €/);
  await step(page, "check-focused", { check: false, narrow: false });
  await press("Enter");
  await page.getByLabel("Card number").waitFor();
  await tabTo(/^Card number/);
  await page.keyboard.type("4242424242424242");
  await tabTo(/^Valid until/);
  await page.keyboard.type("12/34");
  await tabTo(/^Security code/);
  await page.keyboard.type("123");
  await press("Enter");
  const report = await inHand(page);
  await tabTo(/^Open this ticket/);
  await press("Enter");
  await page.getByText("This code lets one person in").waitFor();
  await step(page, "ticket", { check: false, narrow: false });
  return report;
});
