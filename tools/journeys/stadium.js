// A house of 60,000 seats: parts first, then seats, on a wide screen and on a phone.
"use strict";
const { journey, step, until, pay, inHand, base } = require("./lib");

journey(async ({ fan }) => {
  const page = await fan();
  // Asked for outside of the page: a browser complains of each answer that the seats are not in yet.
  await until("the stadium to be in", async () => (await fetch(base + "/performances/final")).status === 200);
  await page.goto(base + "/performances/final");
  await page.locator("#map a[data-section]").first().waitFor();
  await step(page, "house");
  await page.locator('#map a[data-section="223"]').click();
  await page.locator("#map .seat").first().waitFor();
  await page.getByRole("heading", { name: "Block 223" }).first().waitFor();
  await step(page, "part");
  await page.locator('#map .seat[data-id="223-5-10"]').click();
  await until("two seats", async () => (await page.locator("#choice li").count()) === 2);
  // Another part of the house: what was chosen stays.
  await page.getByRole("button", { name: "Whole house" }).click();
  await page.locator("#list summary").first().click();
  await page.locator("#list").getByRole("link", { name: /^Block 107/ }).click();
  await page.getByRole("heading", { name: "Block 107" }).first().waitFor();
  await until("the chosen seats to stay", async () => (await page.locator("#choice li").count()) === 2);
  await step(page, "another-part");

  // On a phone the first tap on the small picture comes nearer, the second one opens.
  const phone = await fan({ viewport: { width: 360, height: 740 }, hasTouch: true, isMobile: true });
  await phone.goto(base + "/performances/final");
  const part = phone.locator('#map a[data-section="223"]');
  await part.tap();
  await until("the map to come nearer", async () => (await phone.locator("#map").evaluate((m) => m.scrollWidth > 2 * m.clientWidth)));
  await part.tap();
  await phone.locator("#map .seat").first().waitFor();
  const seat = phone.locator('#map .seat[data-id="223-8-10"]');
  await seat.tap();
  await until("seats to be chosen or nearer", async () => (await phone.locator("#choice li").count()) === 2 || (await phone.locator("#map").evaluate((m) => m.scrollWidth > 2 * m.clientWidth)));
  if ((await phone.locator("#choice li").count()) === 0) await seat.tap();
  await until("two seats", async () => (await phone.locator("#choice li").count()) === 2);
  await step(phone, "phone", { narrow: false, check: false });

  await page.getByRole("button", { name: "Keep these seats" }).click();
  await page.getByRole("button", { name: /^Pay / }).click();
  await pay(page);
  return inHand(page);
});
