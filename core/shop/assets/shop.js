// The live seat map and the countdowns. Every page is complete without this file: it only ever draws what the page's own forms
// can do as well.
(() => {
  "use strict";
  document.documentElement.classList.add("js");
  for (const el of document.querySelectorAll("time[data-clock]")) clock(el);
  for (const el of document.querySelectorAll("time[data-countdown]")) countdown(el);

  // clock shows a promise in the fan's own time instead of the house's.
  function clock(el) {
    el.textContent = new Intl.DateTimeFormat(navigator.language, { hour: "numeric", minute: "2-digit" }).format(new Date(el.dateTime));
  }

  // countdown shows what is left beside the promised time, by the monotonic clock, so that a device's wrong clock shows only at
  // first. At the end the page is loaded again: the server says what became of the seats.
  function countdown(el) {
    const end = Date.parse(el.dateTime), start = performance.now(), left0 = end - Date.now();
    const box = document.createElement("span");
    box.className = "num";
    box.setAttribute("aria-hidden", "true");
    el.after(" ", box);
    const tick = () => {
      const left = Math.max(0, left0 - (performance.now() - start));
      box.textContent = `(${Math.floor(left / 60000)}:${String(Math.floor(left / 1000) % 60).padStart(2, "0")})`;
      if (left > 0) setTimeout(tick, Math.min(left, 1000 - (performance.now() - start) % 1000));
      else if (el.dataset.countdown === "reload" && left0 > 0) setTimeout(() => location.reload(), 1000);
    };
    tick();
  }

  const form = document.getElementById("pick");
  if (!form) return;

  const $ = (id) => document.getElementById(id);
  const NS = "http://www.w3.org/2000/svg";
  const max = Number(form.dataset.max), big = form.dataset.big === "true";
  const base = "/api/v1/performances/" + encodeURIComponent(form.dataset.slug);
  const map = $("map"), overview = map.querySelector("svg"), qty = $("qty");
  const prices = new Map();
  for (const li of document.querySelectorAll(".legend [data-category]")) prices.set(li.dataset.category, { minor: Number(li.dataset.minor), text: li.dataset.price });
  const money = new Intl.NumberFormat(form.dataset.locale, { style: "currency", currency: form.dataset.currency });
  const digits = money.resolvedOptions().maximumFractionDigits;
  const plural = (n, one, many) => `${n} ${n === 1 ? one : many}`;

  const make = (name, attrs, parent) => {
    const el = document.createElementNS(NS, name);
    for (const k in attrs) el.setAttribute(k, attrs[k]);
    parent?.append(el);
    return el;
  };
  const button = (text, label, f) => {
    const b = document.createElement("button");
    b.type = "button";
    b.textContent = text;
    if (label) b.setAttribute("aria-label", label);
    b.addEventListener("click", f);
    return b;
  };

  // What is known of the house. A seat is known from the moment its section's plan is; whether it is free comes with every
  // availability, by its position in chart order.
  const seats = new Map();  // id -> seat
  const chosen = new Map(); // id -> seat, or what the server said of one whose plan is not here
  let starts = [], total = 0, version = 0, free = new Uint8Array(0);
  let drawn = [];           // seats on the map now
  let areas = [];           // admission areas on the map now
  let section = null;       // the section whose seats are on the map; null: the whole house

  for (const box of document.querySelectorAll("input[name=seat]:checked")) {
    chosen.set(box.value, { id: box.value, text: box.closest("label").textContent.trim() });
  }

  // The way from the overview to seats: a click on a part of the picture or of the list opens it in place. Whoever opens it in a
  // new tab gets the page of that section.
  document.addEventListener("click", (e) => {
    const link = e.target.closest?.("a[data-section]");
    if (!link || e.button !== 0 || e.metaKey || e.ctrlKey || e.shiftKey || e.altKey) return;
    e.preventDefault();
    const onMap = map.contains(link);
    if (onMap && Number(overview.dataset.font) * scale() < 7 && zoom < 3) zoomTo(3, link);
    else open(link.dataset.section, onMap);
  });

  async function boot() {
    const a = await get(base + "/availability");
    if (!a) return;
    const first = big ? form.querySelector("input[name=section]")?.value : "";
    if (!big || first) await load(first || "");
    apply(await a.json());
    if (!big) draw(null);
    else if (first && seats.size) draw(first);
    adopt();
    tools();
    update();
    setInterval(refresh, 3000);
  }

  const get = async (url) => {
    const r = await fetch(url);
    if (r.status === 401 || r.status === 403 || (r.status === 503 && r.headers.get("Stanchion-Decision") === "wait")) $("over").hidden = false;
    return r.ok ? r : null;
  };

  // load reads the plan of one section, or of the whole house. Plans never change.
  const loaded = new Set();
  async function load(id) {
    if (loaded.has(id)) return true;
    const r = await get(base + "/chart" + (id ? "?section=" + encodeURIComponent(id) : ""));
    if (!r) return false;
    starts = r.headers.get("Stanchion-Block-Starts").split(",").map(Number);
    const plan = await r.json();
    const classes = new Map(plan.categories.map((c, i) => [c.name, "k" + i]));
    let n = id ? position(id) : 0;
    for (const sec of plan.sections) for (const row of sec.rows) {
      if (row.general) {
        areas.push({ section: sec.id, name: sec.name, label: row.label, category: row.category, first: n, units: row.general.units, box: row.general, kind: classes.get(row.category) });
        n += row.general.units;
        continue;
      }
      row.seats.forEach((s, k) => {
        const category = s.category || row.category;
        const seat = { id: s.id || `${sec.id}-${row.label}-${s.label}`, at: n++, section: sec.id, part: sec.name, short: shortName(sec.id), row, k, label: s.label, x: s.x, y: s.y,
          category, kind: classes.get(category), wheel: s.accessible, companion: s.companion };
        (row.list ||= []).push(seat);
        seats.set(seat.id, seat);
      });
    }
    loaded.add(id);
    return true;
  }

  // position of a section's first seat in chart order: the overview's parts are in that order, each with its number of seats.
  function position(id) {
    let n = 0;
    for (const a of overview.querySelectorAll("a[data-section]")) {
      if (a.dataset.section === id) return n;
      n += Number(a.dataset.seats);
    }
    return n;
  }

  const shortName = (id) => overview.querySelector(`a[data-section="${CSS.escape(id)}"] text`).textContent;

  const isFree = (s) => free[s.at] === 1 && prices.has(s.category);
  const freeOf = (a) => { let n = 0; for (let i = a.first; i < a.first + a.units; i++) n += free[i]; return n; };

  function apply(av) {
    version = av.ver;
    if (!total) {
      for (const a of overview.querySelectorAll("a[data-section]")) total += Number(a.dataset.seats);
      free = new Uint8Array(total);
    }
    let at = 0;
    for (const b of av.blocks) {
      const bits = atob(b.free);
      at = starts.length ? starts[b.block] : at;
      for (let n = 0; n < b.seats; n++) free[at + n] = bits.charCodeAt(n >> 3) >> (n & 7) & 1;
      at += b.seats;
    }
    if (!starts.length) { // the first answer has all blocks in order
      let n = 0;
      starts = av.blocks.map((b) => { const s = n; n += b.seats; return s; });
    }
  }

  async function refresh() {
    if (document.hidden) return;
    try {
      const r = await get(`${base}/availability?since=${version}`);
      if (!r) return;
      const av = await r.json();
      if (!av.blocks.length) return;
      apply(av);
      paint();
      shade();
    } catch { /* a lost network keeps the last picture; the next round tries again */ }
  }

  // shade keeps the overview and the list's numbers as live as the seats.
  function shade() {
    let at = 0;
    for (const a of overview.querySelectorAll("a[data-section]")) {
      const of = Number(a.dataset.seats);
      let n = 0;
      for (let i = at; i < at + of; i++) n += free[i];
      at += of;
      a.classList.remove("level0", "level1", "level2");
      a.classList.add("level" + (n === 0 ? 0 : n * 5 < of ? 1 : 2));
      a.querySelector("title").textContent = a.querySelector("title").textContent.replace(/: \d+ of/, `: ${n} of`);
      const number = document.querySelector(`[data-free="${CSS.escape(a.dataset.section)}"]`);
      if (number) number.textContent = n ? `${n} free` : "none free";
    }
    for (const box of document.querySelectorAll("#rows input[name=seat]")) {
      const s = seats.get(box.value);
      if (s && !box.checked) box.disabled = !isFree(s);
    }
  }

  // open shows a section: its rows in the list, from the server, and its seats on the map.
  async function open(id, onMap) {
    map.setAttribute("aria-busy", "true");
    try {
      const page = await get("?section=" + encodeURIComponent(id));
      if (page) {
        const fresh = new DOMParser().parseFromString(await page.text(), "text/html");
        $("rows").replaceChildren(...fresh.getElementById("rows").childNodes);
        for (const a of document.querySelectorAll(".parts a[data-section]")) {
          if (a.dataset.section === id) a.setAttribute("aria-current", "true"); else a.removeAttribute("aria-current");
        }
        let hidden = form.querySelector("input[name=section]");
        if (!hidden) { hidden = document.createElement("input"); hidden.type = "hidden"; hidden.name = "section"; form.append(hidden); }
        hidden.value = id;
        history.replaceState(null, "", "?section=" + encodeURIComponent(id));
      }
      if (big && await load(id)) draw(id);
      sync();
      if (onMap) map.querySelector(".seat[tabindex='0']")?.focus({ preventScroll: true });
      else $("rows").querySelector("h3")?.scrollIntoView({ block: "start" });
    } catch {
      location.href = "?section=" + encodeURIComponent(id) + "#list";
    }
    map.removeAttribute("aria-busy");
  }

  // Drawing.

  const nameOf = (s) => `${s.part}, row ${s.row.label}, seat ${s.label}` + (s.wheel ? ", wheelchair space" : "") + (s.companion ? ", companion seat" : "") +
    ` · ${s.category} ${prices.get(s.category)?.text ?? "not on sale"}`;

  const median = (list, otherwise) => { list.sort((a, b) => a - b); return list.length ? list[list.length >> 1] : otherwise; };
  const neighbours = (list, f) => list.flatMap((s, i) => i && list[i - 1].row === s.row ? [f(list[i - 1], s)] : []);

  // places gives each seat its place on the map. A whole house is drawn as its plan says. A single section is turned so that its
  // front row is at the top, and stretched so that rows and neighbours are equally far apart, which real plans rarely are.
  function places(list, whole) {
    if (whole) return { unit: median(neighbours(list, (a, b) => Math.hypot(b.x - a.x, b.y - a.y)), 20), at: (s) => [s.x, s.y] };
    let dx = 0, dy = 0, cx = 0, cy = 0;
    neighbours(list, (a, b) => { dx += b.x - a.x; dy += b.y - a.y; });
    for (const s of list) { cx += s.x / list.length; cy += s.y / list.length; }
    const len = Math.hypot(dx, dy) || 1;
    let ux = dx / len || 1, uy = dy / len;
    const box = overview.viewBox.baseVal, mark = overview.querySelector(".landmark");
    const front = mark ? [mark.x.baseVal.value + mark.width.baseVal.value / 2, mark.y.baseVal.value + mark.height.baseVal.value / 2] : [box.x + box.width / 2, box.y + box.height / 2];
    if ((front[0] - cx) * -uy + (front[1] - cy) * ux > 0) { ux = -ux; uy = -uy; } // the front belongs above
    const turn = (s) => [(s.x - cx) * ux + (s.y - cy) * uy, (s.x - cx) * -uy + (s.y - cy) * ux];
    const rows = new Map(); // middle of each row
    for (const s of list) { const r = rows.get(s.row) || rows.set(s.row, [0, 0, 0]).get(s.row), [x, y] = turn(s); r[0] += x; r[1] += y; r[2]++; }
    const middles = [...rows.values()].map(([x, y, n]) => [x / n, y / n]).sort((a, b) => a[1] - b[1]);
    let xy = 0, yy = 0; // rows that move sideways from front to back are brought under each other
    for (const [x, y] of middles) { xy += x * y; yy += y * y; }
    const slant = yy ? xy / yy : 0;
    const across = median(neighbours(list, (a, b) => Math.abs(turn(b)[0] - turn(a)[0])), 20) || 20;
    const down = median(middles.slice(1).map((m, i) => m[1] - middles[i][1]).filter((d) => d > 0.01), across);
    return { unit: 22, at: (s) => { const [x, y] = turn(s); return [(x - slant * y) / across * 22, y / down * 26]; } };
  }

  function draw(id) {
    section = id;
    drawn = [...seats.values()].filter((s) => id === null || s.section === id);
    const here = areas.filter((a) => id === null || a.section === id);
    const { unit, at } = places(drawn, id === null);
    const r = unit * 0.42;
    const svg = make("svg", { role: "group", "aria-labelledby": "map-h", "aria-describedby": "map-help" });
    svg.style.setProperty("--thin", unit * 0.12);
    const box = { x0: Infinity, y0: Infinity, x1: -Infinity, y1: -Infinity };
    const grow = (x, y) => { box.x0 = Math.min(box.x0, x); box.y0 = Math.min(box.y0, y); box.x1 = Math.max(box.x1, x); box.y1 = Math.max(box.y1, y); };
    if (id === null) for (const el of overview.querySelectorAll(".landmark, .landmark-name")) svg.append(el.cloneNode(true));
    for (const a of here) if (id === null || !drawn.length) area(a, svg, grow, unit);
    let last = null;
    const rowName = (s, side) => { // outside of the row's end, wherever that is after turning
      const [x, y] = at(s), list = s.row.list, out = Math.sign(at(list[list.length - 1])[0] - at(list[0])[0]) || 1;
      make("text", { x: x + side * out * unit * 1.1, y, "font-size": unit * 0.6, "dominant-baseline": "central", class: "rowname", "aria-hidden": "true" }, svg).textContent = s.row.label;
    };
    for (const s of drawn) {
      if (last?.row !== s.row) { if (last) rowName(last, 1); rowName(s, -1); }
      last = s;
      const [x, y] = at(s);
      grow(x, y);
      [s.px, s.py] = [x, y];
      s.el = make("g", { class: `seat ${s.kind}`, transform: `translate(${x.toFixed(1)} ${y.toFixed(1)})`, role: "checkbox", tabindex: "-1", "data-id": s.id }, svg);
      make("circle", { r: unit * 0.5, class: "halo" }, s.el);
      shape(s, r);
      if (s.wheel || s.companion) make("circle", { r: s.wheel ? r * 0.55 : r * 0.25, class: "ring" }, s.el);
      else { const t = make("text", { "font-size": unit * 0.4, "dominant-baseline": "central", class: "no", "aria-hidden": "true" }, s.el); t.textContent = s.label; }
    }
    if (last) rowName(last, 1);
    if (id === null) partNames(svg, unit);
    if (id === null) svg.setAttribute("viewBox", overview.getAttribute("viewBox"));
    else {
      const m = unit * 2, top = unit * 2.4, name = overview.querySelector(".landmark-name")?.textContent;
      svg.setAttribute("viewBox", `${box.x0 - m} ${box.y0 - m - top} ${box.x1 - box.x0 + 2 * m} ${box.y1 - box.y0 + 2 * m + top}`);
      if (name) make("text", { x: (box.x0 + box.x1) / 2, y: box.y0 - m - top / 3, "font-size": unit * 0.8, class: "landmark-name" }, svg).textContent = `↑ ${name}`;
    }
    svg.addEventListener("click", (e) => {
      const seat = seats.get(e.target.closest("[data-id]")?.dataset.id);
      if (!seat) return;
      if (tight()) { zoomTo(3, seat.el); return; }
      press(seat);
    });
    svg.addEventListener("keydown", (e) => keys(e, unit));
    svg.addEventListener("pointerover", (e) => preview(seats.get(e.target.closest("[data-id]")?.dataset.id)));
    svg.addEventListener("pointerleave", () => preview(null));
    svg.addEventListener("focusin", (e) => preview(seats.get(e.target.closest("[data-id]")?.dataset.id)));
    map.replaceChildren(svg);
    map.dataset.unit = unit;
    zoomTo(1);
    tools();
    paint();
    (drawn.find(isFree) || drawn[0])?.el.setAttribute("tabindex", "0");
    $("map-help").textContent = "Choose a seat: as many as you want are taken side by side. With the keyboard, arrows move and space chooses.";
  }

  // partNames writes a section's name before its front row where nothing else is.
  function partNames(svg, unit) {
    for (const a of overview.querySelectorAll("a[data-section]")) {
      const first = drawn.find((s) => s.section === a.dataset.section)?.row.list;
      if (!first) continue;
      const mid = first[first.length >> 1], x = (first[0].px + first[first.length - 1].px) / 2, y = mid.py - unit * 1.7, w = unit * 3;
      const clash = drawn.some((s) => Math.abs(s.px - x) < w && Math.abs(s.py - y) < unit * 1.1) ||
        [...overview.querySelectorAll("rect.landmark")].some((m) => x + w > m.x.baseVal.value && x - w < m.x.baseVal.value + m.width.baseVal.value && y + unit > m.y.baseVal.value && y - unit < m.y.baseVal.value + m.height.baseVal.value);
      if (!clash) make("text", { x, y, "font-size": unit * 0.9, "dominant-baseline": "central", class: "landmark-name" }, svg).textContent = a.querySelector("text").textContent;
    }
  }

  // shape tells categories apart without their colour: a circle, a square, a diamond.
  function shape(s, r) {
    const n = Number(s.kind.slice(1)) % 3;
    s.dot = n === 0 ? make("circle", { r, class: "dot" }, s.el)
      : make("rect", { x: -r * 0.92, y: -r * 0.92, width: r * 1.84, height: r * 1.84, rx: r * 0.4, class: "dot", ...(n === 2 && { transform: "rotate(45) scale(.84)" }) }, s.el);
    s.tick = make("path", { d: `M${-r * 0.42} 0l${r * 0.3} ${r * 0.34} ${r * 0.56} ${-r * 0.7}`, class: "tick", "stroke-width": r * 0.26 }, s.el);
  }

  // area draws places without numbers. Choosing it puts its category into the form for the best seats.
  function area(a, svg, grow, unit) {
    const b = a.box;
    grow(b.x, b.y); grow(b.x + b.width, b.y + b.height);
    a.el = make("g", { class: `part area ${a.kind}`, role: "button", tabindex: "0" }, svg);
    make("rect", { x: b.x, y: b.y, width: b.width, height: b.height, rx: unit / 2 }, a.el);
    a.text = make("text", { x: b.x + b.width / 2, y: b.y + b.height / 2, "font-size": unit * 0.8, "dominant-baseline": "central" }, a.el);
    const go = () => { $("offer").value = a.category; $("best").querySelector("button").focus(); };
    a.el.addEventListener("click", go);
    a.el.addEventListener("keydown", (e) => { if (e.key === "Enter" || e.key === " ") { e.preventDefault(); go(); } });
  }

  // Zooming. On a small screen seats are too small to hit: the first tap comes nearer, the next one chooses.
  let zoom = 1;
  const scale = () => { const svg = map.firstElementChild; return svg.getBoundingClientRect().width / svg.viewBox.baseVal.width; };
  const pixels = () => scale() * Number(map.dataset.unit || 0);
  const tight = () => pixels() > 0 && pixels() < 14;

  function zoomTo(k, onto) {
    const svg = map.firstElementChild, fx = (map.scrollLeft + map.clientWidth / 2) / map.scrollWidth, fy = (map.scrollTop + map.clientHeight / 2) / map.scrollHeight;
    zoom = Math.min(Math.max(k, 1), 6);
    // A single section of few seats is not blown up to the whole width.
    const natural = section === null ? Infinity : svg.viewBox.baseVal.width * 1.6;
    svg.style.maxHeight = zoom === 1 ? "" : "none";
    svg.style.width = zoom === 1 ? (natural < map.clientWidth ? natural + "px" : "") : Math.min(natural, map.clientWidth) * zoom + "px";
    svg.classList.toggle("near", pixels() >= 24);
    if (onto) {
      const a = onto.getBoundingClientRect(), b = map.getBoundingClientRect();
      map.scrollBy((a.left + a.right - b.left - b.right) / 2, (a.top + a.bottom - b.top - b.bottom) / 2);
    } else if (zoom > 1) map.scrollTo(fx * map.scrollWidth - map.clientWidth / 2, fy * map.scrollHeight - map.clientHeight / 2);
    const [out] = map.parentElement.querySelectorAll(".zoom button");
    if (out) out.disabled = zoom === 1;
  }
  addEventListener("resize", () => zoomTo(zoom));

  function tools() {
    const bar = $("map-bar");
    bar.replaceChildren();
    $("map-h").textContent = big && section !== null ? drawn[0]?.part ?? "Seat map" : "Seat map";
    if (big && section !== null) bar.append(button("‹ Whole house", "", whole));
    const z = document.createElement("div");
    z.className = "zoom";
    z.append(button("−", "Smaller", () => zoomTo(zoom / 1.6)), button("+", "Larger", () => zoomTo(zoom * 1.6)));
    bar.append(z);
    z.firstChild.disabled = zoom === 1;
  }

  function whole() {
    section = null;
    drawn = [];
    delete map.dataset.unit;
    map.replaceChildren(overview);
    $("map-help").textContent = help;
    zoomTo(1);
    tools();
    here("");
  }
  const help = $("map-help").textContent;

  // here says what lies under the pointer or the focus; screen readers hear it from the seat itself.
  const line = document.createElement("p");
  line.className = "here";
  line.setAttribute("aria-hidden", "true");
  map.after(line);
  const here = (text) => { line.textContent = text || "\u00a0"; };
  here("");

  function keys(e, unit) {
    const now = seats.get(e.target.closest("[data-id]")?.dataset.id);
    if (!now || e.altKey || e.ctrlKey || e.metaKey) return;
    if (e.key === " " || e.key === "Enter") { e.preventDefault(); press(now); return; }
    const dir = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[e.key];
    const row = now.row.list;
    let best = e.key === "Home" ? row[0] : e.key === "End" ? row[row.length - 1] : null, cost = Infinity;
    if (!dir && !best) return;
    e.preventDefault();
    if (dir) for (const s of drawn) { // the nearest one in that direction; sideways counts triple
      const dx = s.px - now.px, dy = s.py - now.py, along = dx * dir[0] + dy * dir[1], across = Math.abs(dx * dir[1] + dy * dir[0]);
      if (along > unit * 0.3 && along + 3 * across < cost) { cost = along + 3 * across; best = s; }
    }
    if (best) focusOn(best);
  }

  function focusOn(s) {
    for (const el of map.querySelectorAll(".seat[tabindex='0']")) el.setAttribute("tabindex", "-1");
    s.el.setAttribute("tabindex", "0");
    s.el.focus();
  }

  // Choosing.

  const party = () => Math.min(Number(qty.value) || 1, max);

  // together gives up to n free seats side by side, the named one among them: to the right of it if there is room, else as near
  // as can be. Aisles part neighbours, and wheelchair spaces are only given to who chose one.
  function together(s, n) {
    const row = s.row.list, special = Boolean(s.wheel || s.companion);
    const fits = (t) => t && isFree(t) && !chosen.has(t.id) && Boolean(t.wheel || t.companion) === special;
    if (!fits(s)) return [];
    let a = s.k, b = s.k;
    while (b - a + 1 < n && fits(row[b + 1]) && !gapBefore(row[b + 1])) b++;
    while (b - a + 1 < n && fits(row[a - 1]) && !gapBefore(row[a])) a--;
    return row.slice(a, b + 1);
  }
  const gapBefore = (s) => s.row.seats[s.k].gap;

  // would says what a press on a seat does: which seats go and which come.
  function would(s) {
    if (chosen.has(s.id)) return { go: [s], come: [] };
    if (!isFree(s)) return { go: [], come: [] };
    const n = party(), move = chosen.size >= n;
    const go = move ? [...chosen.values()] : [];
    const kept = new Map(chosen);
    if (move) chosen.clear();
    const come = together(s, move ? n : n - chosen.size);
    if (move) for (const [id, t] of kept) chosen.set(id, t);
    return { go, come };
  }

  function press(s) {
    const { go, come } = would(s);
    if (!go.length && !come.length) { say(`${nameOf(s)} is taken.`); return; }
    for (const t of go) chosen.delete(t.id);
    for (const t of come) chosen.set(t.id, t);
    focusOn(s);
    paint();
    sync();
    if (come.length && chosen.size < party()) say(`Only ${plural(come.length, "seat is", "seats are")} free side by side here. ${summary()}.`);
    else update();
    preview(null);
  }

  function preview(s) {
    for (const t of drawn) t.el.classList.remove("soon");
    if (!s) { here(""); return; }
    here(nameOf(s) + (chosen.has(s.id) ? " · yours" : isFree(s) ? "" : " · taken"));
    for (const t of would(s).come) t.el.classList.add("soon");
  }

  function paint() {
    for (const s of drawn) {
      const mine = chosen.has(s.id), open = isFree(s), r = Number(map.dataset.unit) * 0.42;
      s.el.classList.toggle("mine", mine);
      s.el.classList.toggle("taken", !mine && !open);
      s.dot.style.transform = ""; // the taken ones are small, so that free ones stand out without colour
      if (s.dot.tagName === "circle") s.dot.setAttribute("r", mine || open ? r : r * 0.4);
      else s.dot.style.scale = mine || open ? "" : ".4";
      s.tick.style.display = mine ? "" : "none";
      s.el.setAttribute("aria-checked", mine);
      if (mine || open) s.el.removeAttribute("aria-disabled"); else s.el.setAttribute("aria-disabled", "true");
      s.el.setAttribute("aria-label", nameOf(s) + (mine || open ? "" : ", taken"));
    }
    for (const a of areas) if (a.el) {
      const n = freeOf(a);
      a.text.textContent = `${a.label} · ${n ? n + " free" : "none free"}`;
      a.el.setAttribute("aria-label", `${a.name}, ${a.label}, ${n} free, ${prices.get(a.category)?.text ?? ""}: choose how many`);
    }
  }

  // adopt replaces what the server said of chosen seats by what the plan says, where it is here.
  function adopt() {
    for (const id of chosen.keys()) if (seats.has(id)) chosen.set(id, seats.get(id));
    sync();
    paint();
  }

  // sync brings the list's boxes and the chips under it to what is chosen. A seat without a box in the list travels with its chip.
  function sync() {
    const boxes = new Map([...$("rows").querySelectorAll("input[name=seat]")].map((b) => [b.value, b]));
    for (const [id, box] of boxes) { box.checked = chosen.has(id); if (box.checked) box.disabled = false; }
    $("choice").replaceChildren(...[...chosen.values()].map((s) => {
      const li = document.createElement("li");
      const text = s.row ? `${big ? s.short + ", row" : "Row"} ${s.row.label}, ${s.label}` : s.text;
      const b = button(text, `Let go ${text}`, () => { chosen.delete(s.id); paint(); sync(); update(); ($("choice").querySelector("button") || $("take")).focus(); });
      b.className = "chip";
      const x = make("svg", { width: 12, height: 12, viewBox: "0 0 12 12", "aria-hidden": "true" }, b);
      make("path", { d: "M2 2l8 8M10 2l-8 8", stroke: "currentColor", "stroke-width": 1.8, "stroke-linecap": "round" }, x);
      li.append(b);
      if (!boxes.has(s.id)) {
        const h = document.createElement("input");
        h.type = "hidden"; h.name = "seat"; h.value = s.id; h.setAttribute("form", "pick");
        li.append(h);
      }
      return li;
    }));
  }

  form.addEventListener("change", (e) => {
    if (e.target.name !== "seat") return;
    const id = e.target.value;
    if (e.target.checked && chosen.size >= max) { e.target.checked = false; say(`You can choose up to ${plural(max, "seat", "seats")}. Let one go to choose another.`); return; }
    if (e.target.checked) chosen.set(id, seats.get(id) || { id, text: fromList(e.target) }); else chosen.delete(id);
    paint();
    sync();
    update();
  });
  const fromList = (box) => `${box.closest("#rows").querySelector("h3").textContent}, ${box.closest("fieldset").querySelector("legend").firstChild.textContent.trim().toLowerCase()}, seat ${box.nextElementSibling.firstChild.textContent.trim()}`;

  const say = (text) => { $("chosen").textContent = text; };

  function summary() {
    const list = [...chosen.values()];
    if (!list.length) return `Choose up to ${plural(max, "seat", "seats")}`;
    const known = list.every((s) => s.category);
    const sum = known ? list.reduce((n, s) => n + prices.get(s.category).minor, 0) : 0;
    return plural(list.length, "seat", "seats") + (known ? `, ${money.format(sum / 10 ** digits)}` : "");
  }
  function update() { say(summary()); }
  qty.addEventListener("change", update);

  boot().catch((e) => console.warn("The seat map is not drawn; the list does everything.", e));
})();
