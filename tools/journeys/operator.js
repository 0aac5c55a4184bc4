// An operator watches the room live, pauses it, changes its rate and resumes it; a fan in line sees it.
"use strict";
const lib = require("./lib");
const { journey, step, until, state, ahead, base } = lib;

journey(async ({ fan }) => {
  const desk = await fan();
  await desk.goto(lib.login);
  await desk.getByRole("link", { name: "onsale" }).click();
  await desk.getByRole("heading", { name: "onsale", level: 1 }).waitFor();
  // Live: the room opens before their eyes, without a reload.
  const phase = desk.locator('[data-w="phase"]');
  await until("the room to open", async () => /waiting/.test(await phase.textContent()));

  // Who comes after the opening is behind all who were in the lobby.
  const waiting = await fan();
  await waiting.goto(base + "/performances/gala");
  await until("a place in line", async () => ["waiting", "near"].includes(await state(waiting)) && (await ahead(waiting)) !== null);
  await desk.locator("#a-reason").fill("A look at the payments");
  await desk.getByRole("button", { name: "Pause admission" }).last().click();
  await desk.getByText("Done:").waitFor();
  await until("the fan to see the pause", async () => (await state(waiting)) === "paused");
  await step(waiting, "fan-paused");
  await step(desk, "paused");

  const rate = desk.locator("#f-rate_per_second");
  const before = Number(await rate.inputValue());
  await rate.fill(String(before * 2));
  await desk.locator("#f-reason").fill("The shop keeps up well");
  await desk.getByRole("button", { name: "Preview" }).click();
  await until("a preview", async () => /rate_per_second/.test(await desk.locator("#effect").textContent()));
  await step(desk, "rate-previewed", { narrow: false });
  await desk.getByRole("button", { name: "Apply" }).click();
  await until("the new rate", async () => Number((await desk.locator('[data-w="rate"]').textContent()).replace(/[^\d.]/g, "")) === before * 2);
  const after = Number(await desk.locator("#f-rate_per_second").inputValue());

  await desk.getByRole("button", { name: "Resume normal admission" }).first().click();
  await until("the room to go on", async () => /waiting|open/.test(await phase.textContent()));
  await waiting.reload(); // by itself the page asks again within a minute
  await until("the fan to go on", async () => ["waiting", "near", "called", "door", "moment", "shop"].includes(await state(waiting)));
  await step(desk, "resumed", { check: false, narrow: false });
  return { Before: before, After: after, Paused: true, Resumed: true };
});
