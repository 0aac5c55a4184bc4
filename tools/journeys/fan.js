// The whole way with JavaScript: what is on, lobby, a place that shrinks, two seats side by side on the map, a payment, tickets.
"use strict";
const { journey, step, expect, until, state, comeIn, hindmost, pay, inHand, base, fail } = require("./lib");

journey(async ({ fan }) => {
  const [page, places] = await hindmost(fan, async (p) => {
    await p.goto(base + "/");
    await p.getByRole("link", { name: "Gala at the theatre" }).click();
    await until("the lobby", async () => (await state(p)) === "lobby");
  }, {}, async (p) => {
    const shown = await p.locator("#countdown").textContent();
    await until("the countdown to move", async () => (await p.locator("#countdown").textContent()) !== shown);
    await step(p, "lobby");
    // The front page, which nobody waits for, is looked at meanwhile.
    const front = await fan();
    await front.goto(base + "/");
    await step(front, "what-is-on");
    await front.context().close();
  });
  await step(page, "in-line", { check: false });
  await comeIn(page, places);

  await page.locator("#map .seat").first().waitFor();
  await step(page, "seats");
  // One press on a seat takes two side by side; another press somewhere else moves both.
  const free = (row) => page.locator(`#map .seat[data-id^="stalls-${row}-"]:not(.taken):not(.mine)`);
  await free("M").nth(3).click();
  await until("two seats", async () => (await page.locator("#choice li").count()) === 2);
  const before = await page.locator("#choice").textContent();
  await free("K").nth(8).hover();
  await until("the preview", async () => (await page.locator("#map .seat.soon").count()) === 2);
  await free("K").nth(8).click();
  await until("the party to move", async () => (await page.locator("#choice").textContent()) !== before && (await page.locator("#choice li").count()) === 2);
  await step(page, "seats-chosen");
  await page.getByRole("button", { name: "Keep these seats" }).click();

  await page.getByRole("heading", { name: "Check and pay" }).waitFor();
  await step(page, "check");
  // The back button shows that the seats are kept; from there the way goes on.
  await page.goBack();
  await page.getByText("You are keeping seats already").waitFor();
  await step(page, "back-at-the-seats", { check: false });
  await page.getByRole("button", { name: "Go on to pay" }).click();
  await page.getByRole("button", { name: /^Pay / }).click();

  await page.getByLabel("Card number").waitFor();
  await step(page, "provider");
  await pay(page, "4000 0000 0000 0002");
  await page.getByText("declined").first().waitFor();
  await step(page, "provider-declined");
  await page.goBack(); // to the check, which knows of the open payment
  await page.goBack().catch(() => {});
  await page.goto(base + "/performances/gala");
  await page.getByRole("link", { name: "Go on to pay" }).click();
  await page.getByRole("heading", { name: "Your order" }).waitFor();
  await step(page, "order-unpaid");
  await page.getByRole("link", { name: "Go to the payment page" }).click();
  await pay(page);

  const report = await inHand(page, places);
  await step(page, "tickets");
  await page.getByRole("link", { name: "Open this ticket" }).first().click();
  await page.getByText("This code lets one person in").waitFor();
  await step(page, "ticket");
  // A stranger opens the order by its link, and nothing without it.
  const friend = await fan();
  await friend.goto(report.Order);
  await friend.getByRole("heading", { name: "Your tickets" }).waitFor();
  expect(report.Order);
  const res = await friend.goto(report.Order.split("?")[0]);
  if (res.status() !== 404) fail(`an order without its key answers ${res.status()}`);
  return report;
});
