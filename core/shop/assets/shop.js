// The seat map and the countdowns. Every page is complete without this file.
(() => {
  "use strict";
  for (const el of document.querySelectorAll("[data-countdown]")) countdown(el);

  // countdown shows minutes and seconds left beside the promised clock time, by the monotonic clock, so that a wrong device
  // clock only shows in the first paint.
  function countdown(el) {
    const end = Date.parse(el.dateTime);
    const box = document.createElement("span");
    box.className = "muted num";
    box.setAttribute("aria-hidden", "true");
    el.after(" ", box);
    const start = performance.now(), left0 = end - Date.now();
    const tick = () => {
      const left = Math.max(0, left0 - (performance.now() - start));
      box.textContent = `(${Math.floor(left / 60000)}:${String(Math.floor(left / 1000) % 60).padStart(2, "0")} left)`;
      if (left > 0) setTimeout(tick, 1000 - (performance.now() - start) % 1000);
    };
    tick();
  }

  const form = document.getElementById("pick");
  if (!form) return;
  const NS = "http://www.w3.org/2000/svg";
  const max = Number(form.dataset.max);
  const base = "/api/v1/performances/" + encodeURIComponent(form.dataset.slug);
  const prices = new Map();
  for (const li of document.querySelectorAll(".legend [data-category]"))
    prices.set(li.dataset.category, { minor: Number(li.dataset.minor), text: li.dataset.price });
  const chosen = new Map(); // seat id -> seat
  const seats = [];         // in chart order
  const byID = new Map();
  let starts = [], version = 0, chart, shown = null;

  const make = (name, attrs, parent) => {
    const el = document.createElementNS(NS, name);
    for (const k in attrs) el.setAttribute(k, attrs[k]);
    if (parent) parent.append(el);
    return el;
  };
  const money = new Intl.NumberFormat(document.documentElement.lang, { style: "currency", currency: form.dataset.currency });
  const digits = money.resolvedOptions().maximumFractionDigits;

  load().catch(() => {}); // without the map the list still does everything

  async function load() {
    const [c, a] = await Promise.all([fetch(base + "/chart"), fetch(base + "/availability")]);
    if (!c.ok || !a.ok) return;
    starts = c.headers.get("Stanchion-Block-Starts").split(",").map(Number);
    chart = await c.json();
    const colors = new Map(chart.categories.map((k) => [k.name, k.color || "#4b6fa5"]));
    chart.sections.forEach((section, s) => {
      for (const row of section.rows) {
        if (row.general) {
          for (let n = 0; n < row.general.units; n++) seats.push(null);
          continue;
        }
        for (const seat of row.seats) {
          const category = seat.category || row.category;
          const it = { id: seat.id || `${section.id}-${row.label}-${seat.label}`, section: s, row: row.label, label: seat.label, x: seat.x, y: seat.y,
            category, color: colors.get(category), accessible: seat.accessible, companion: seat.companion, free: false };
          seats.push(it);
          byID.set(it.id, it);
        }
      }
    });
    apply(await a.json());
    for (const box of form.querySelectorAll("input[name=seat]:checked")) if (byID.has(box.value)) chosen.set(box.value, byID.get(box.value));
    document.getElementById("map-panel").hidden = false;
    if (byID.size > 2500) overview(); else draw(null);
    update();
    setInterval(refresh, 3000);
  }

  async function refresh() {
    if (document.hidden) return;
    try {
      const r = await fetch(`${base}/availability?since=${version}`);
      if (r.ok) { apply(await r.json()); paint(); }
    } catch { /* a lost network keeps the last picture; the next round tries again */ }
  }

  function apply(av) {
    version = av.ver;
    for (const b of av.blocks) {
      const bits = Uint8Array.from(atob(b.free), (ch) => ch.charCodeAt(0));
      for (let n = 0; n < b.seats; n++) {
        const seat = seats[starts[b.block] + n];
        if (seat) seat.free = (bits[n >> 3] >> (n & 7) & 1) === 1;
      }
    }
  }

  const nameOf = (s) => `${chart.sections[s.section].name}, row ${s.row}, seat ${s.label}` + (s.accessible ? ", wheelchair space" : "") +
    (s.companion ? ", companion seat" : "") + `, ${prices.has(s.category) ? prices.get(s.category).text : ""}`;

  // bounds of the drawing, with a margin for row labels.
  function bounds(list) {
    let x0 = Infinity, y0 = Infinity, x1 = -Infinity, y1 = -Infinity;
    for (const s of list) { x0 = Math.min(x0, s.x); y0 = Math.min(y0, s.y); x1 = Math.max(x1, s.x); y1 = Math.max(y1, s.y); }
    return { x0, y0, x1, y1 };
  }

  function pitch(list) { // the usual distance between neighbours, which sets the radius
    const d = [];
    for (let i = 1; i < list.length && d.length < 400; i++)
      if (list[i].row === list[i - 1].row && list[i].section === list[i - 1].section) d.push(Math.hypot(list[i].x - list[i - 1].x, list[i].y - list[i - 1].y));
    d.sort((a, b) => a - b);
    return d.length ? d[d.length >> 1] : 20;
  }

  let circles = new Map();

  function draw(section) {
    shown = section;
    const list = seats.filter((s) => s && (section === null || s.section === section));
    const unit = pitch(list), r = unit * 0.42, b = bounds(list), m = unit * 2.2;
    const marks = section === null ? (chart.landmarks || []) : [];
    for (const l of marks) {
      b.x0 = Math.min(b.x0, l.area.x); b.y0 = Math.min(b.y0, l.area.y);
      b.x1 = Math.max(b.x1, l.area.x + l.area.width); b.y1 = Math.max(b.y1, l.area.y + l.area.height);
    }
    const svg = make("svg", { viewBox: `${b.x0 - m} ${b.y0 - m} ${b.x1 - b.x0 + 2 * m} ${b.y1 - b.y0 + 2 * m}`, role: "group", "aria-labelledby": "map-h", "aria-describedby": "map-help" });
    const text = `font-size:${unit * 0.7}px`;
    for (const l of marks) {
      make("rect", { x: l.area.x, y: l.area.y, width: l.area.width, height: l.area.height, rx: unit / 3, class: "landmark" }, svg);
      const t = make("text", { x: l.area.x + l.area.width / 2, y: l.area.y + l.area.height / 2 + unit * 0.25 }, svg);
      t.style.fontSize = unit * 0.9 + "px";
      t.textContent = l.label;
    }
    circles = new Map();
    let last = null;
    for (const s of list) {
      if (!last || last.row !== s.row || last.section !== s.section) {
        const t = make("text", { x: s.x - unit * 1.1, y: s.y + unit * 0.22, class: "rowlabel", "aria-hidden": "true" }, svg);
        t.style.fontSize = unit * 0.55 + "px";
        t.textContent = s.row;
      }
      last = s;
      const c = make("circle", { cx: s.x, cy: s.y, r, class: "seat-c", role: "checkbox", tabindex: "-1", "data-id": s.id }, svg);
      c.style.fill = s.color;
      c.style.strokeWidth = unit * 0.14;
      make("title", {}, c).textContent = nameOf(s);
      circles.set(s.id, c);
    }
    svg.addEventListener("click", (e) => { const id = e.target.closest("[data-id]")?.dataset.id; if (id) toggle(byID.get(id)); });
    svg.addEventListener("keydown", (e) => keys(e, list, unit));
    document.getElementById("map").replaceChildren(svg);
    tools();
    paint();
    const first = circles.get(list.find((s) => s.free)?.id ?? list[0].id);
    first.setAttribute("tabindex", "0");
  }

  function keys(e, list, unit) {
    const now = byID.get(e.target.dataset?.id);
    if (!now) return;
    if (e.key === " " || e.key === "Enter") { e.preventDefault(); toggle(now); return; }
    const dir = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[e.key];
    if (!dir) return;
    e.preventDefault();
    let best = null, cost = Infinity;
    for (const s of list) { // nearest in that direction; sideways distance counts triple
      const dx = s.x - now.x, dy = s.y - now.y, along = dx * dir[0] + dy * dir[1], across = Math.abs(dx * dir[1] + dy * dir[0]);
      if (along > unit * 0.3 && along + 3 * across < cost) { cost = along + 3 * across; best = s; }
    }
    if (!best) return;
    e.target.setAttribute("tabindex", "-1");
    const c = circles.get(best.id);
    c.setAttribute("tabindex", "0");
    c.focus();
  }

  // overview of a big house: one box a section, with what is free; choosing one shows its seats.
  function overview() {
    shown = "overview";
    const all = chart.sections.map((section, i) => ({ section, i, list: seats.filter((s) => s && s.section === i) })).filter((g) => g.list.length);
    const b = bounds(all.flatMap((g) => [bounds(g.list)]).flatMap((q) => [{ x: q.x0, y: q.y0 }, { x: q.x1, y: q.y1 }]));
    const size = Math.max(b.x1 - b.x0, b.y1 - b.y0), m = size * 0.02;
    const svg = make("svg", { viewBox: `${b.x0 - m} ${b.y0 - m} ${b.x1 - b.x0 + 2 * m} ${b.y1 - b.y0 + 2 * m}`, role: "group", "aria-labelledby": "map-h" });
    for (const g of all) {
      const q = bounds(g.list), pad = size * 0.003, free = g.list.filter((s) => s.free).length;
      const box = make("rect", { x: q.x0 - pad, y: q.y0 - pad, width: q.x1 - q.x0 + 2 * pad, height: q.y1 - q.y0 + 2 * pad, rx: pad * 2, class: "section-box", role: "button", tabindex: "0" }, svg);
      box.style.strokeWidth = size * 0.0012;
      box.style.fillOpacity = 0.25 + 0.75 * free / g.list.length;
      make("title", {}, box).textContent = `${g.section.name}, ${free} of ${g.list.length} free`;
      const t = make("text", { x: (q.x0 + q.x1) / 2, y: (q.y0 + q.y1) / 2, "aria-hidden": "true" }, svg);
      t.style.fontSize = size * 0.011 + "px";
      t.textContent = g.section.name.replace(/^[^0-9]*(?=\d)/, "");
      const open = () => draw(g.i);
      box.addEventListener("click", open);
      box.addEventListener("keydown", (e) => { if (e.key === "Enter" || e.key === " ") { e.preventDefault(); open(); } });
    }
    document.getElementById("map").replaceChildren(svg);
    tools();
  }

  function tools() {
    const t = document.getElementById("map-tools");
    t.replaceChildren();
    if (typeof shown !== "number" || byID.size <= 2500) return;
    const back = document.createElement("button");
    back.type = "button";
    back.className = "quiet";
    back.textContent = "All sections";
    back.addEventListener("click", overview);
    t.append(back, ` ${chart.sections[shown].name}`);
  }

  function toggle(s) {
    if (chosen.has(s.id)) chosen.delete(s.id);
    else if (!s.free) return;
    else if (chosen.size >= max) { say(`You can choose up to ${max} seats. Let one go to choose another.`); return; }
    else chosen.set(s.id, s);
    for (const box of form.querySelectorAll("input[name=seat]")) if (box.value === s.id) box.checked = chosen.has(s.id);
    paint();
    update();
  }

  form.addEventListener("change", (e) => {
    if (e.target.name !== "seat" || !byID.has(e.target.value)) return;
    const s = byID.get(e.target.value);
    if (e.target.checked && chosen.size >= max && !chosen.has(s.id)) { e.target.checked = false; say(`You can choose up to ${max} seats. Let one go to choose another.`); return; }
    if (e.target.checked) chosen.set(s.id, s); else chosen.delete(s.id);
    paint();
    update();
  });

  function paint() {
    for (const [id, c] of circles) {
      const s = byID.get(id), on = chosen.has(id);
      c.setAttribute("aria-checked", on);
      if (s.free || on) c.removeAttribute("aria-disabled"); else c.setAttribute("aria-disabled", "true");
      c.setAttribute("aria-label", nameOf(s) + (s.free || on ? "" : ", taken"));
    }
  }

  const say = (text) => { document.getElementById("chosen").textContent = text; };

  function update() {
    const list = [...chosen.values()];
    if (!list.length) { say(`Choose up to ${max} seats.`); return; }
    const sum = list.reduce((n, s) => n + (prices.get(s.category)?.minor ?? 0), 0);
    say(`${list.map((s) => `Row ${s.row}, seat ${s.label}`).join("; ")}. Total ${money.format(sum / 10 ** digits)}`);
  }

  form.addEventListener("submit", () => {
    for (const old of form.querySelectorAll("input[data-made]")) old.remove();
    const there = new Set([...form.querySelectorAll("input[name=seat]:checked")].map((b) => b.value));
    for (const id of chosen.keys()) {
      if (there.has(id)) continue;
      const h = document.createElement("input");
      h.type = "hidden"; h.name = "seat"; h.value = id; h.dataset.made = "1";
      form.append(h);
    }
  });
})();
