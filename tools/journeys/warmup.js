// What four fans cost on this machine at this moment; the journeys' lobbies last as long as it takes to come in.
"use strict";
const { journey } = require("./lib");

journey(async ({ fan }) => {
  const pages = await Promise.all([1, 2, 3, 4].map(() => fan()));
  for (const p of pages) {
    await p.setContent("<!doctype html><html lang=en><title>Warm up</title><h1>Warm up</h1>");
    await p.screenshot();
  }
});
