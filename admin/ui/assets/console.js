// What makes the console live: the feed, the charts and their cursor, previews while typing, tables that sort and filter. Every page is
// complete without this file, and every word comes from the server.
(() => {
  "use strict";
  const flag = "stanchion-console-js=1";
  if (!document.cookie.includes(flag)) {
    document.cookie = flag + "; path=/; SameSite=Strict";
    if (document.cookie.includes(flag) && document.getElementById("refreshing")) return location.reload(); // ends the Refresh header of this first page
  }

  const pad = (n) => String(n).padStart(2, "0");
  const clock = (d) => `${pad(d.getHours())}:${pad(d.getMinutes())}:${pad(d.getSeconds())}`;
  const day = (d) => `${d.getFullYear()}-${pad(d.getMonth() + 1)}-${pad(d.getDate())} ${clock(d)}`;
  const localise = (root) => {
    for (const t of root.querySelectorAll("time[data-local]")) {
      const d = new Date(t.dateTime);
      t.textContent = t.dataset.local === "day" ? day(d) : clock(d);
      t.title = t.dateTime;
    }
  };
  localise(document);

  // A second press of a button must not send a form twice.
  document.addEventListener("submit", (e) => {
    if (e.target.dataset.sent) return e.preventDefault();
    e.target.dataset.sent = "1";
  });
  addEventListener("pageshow", () => {
    for (const f of document.forms) delete f.dataset.sent;
  });

  for (const table of document.querySelectorAll("table[data-sort]")) sortable(table);
  for (const part of document.querySelectorAll("[data-refresh]")) refreshing(part);
  const charts = document.getElementById("charts");
  if (charts) room(charts);
  const set = document.getElementById("set");
  if (set) previewing(set);

  // refreshing fetches the page again now and then and takes over one part of it.
  function refreshing(part) {
    const every = Number(part.dataset.refresh) * 1000;
    const again = async () => {
      if (!document.hidden && !part.contains(document.activeElement)) {
        try {
          const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
          if (answer.status === 401) return location.reload();
          const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById(part.id);
          if (answer.ok && fresh && fresh.innerHTML !== part.dataset.was) {
            const order = sorting(part.querySelector("table"));
            part.dataset.was = fresh.innerHTML;
            part.replaceChildren(...fresh.childNodes);
            localise(part);
            for (const table of part.querySelectorAll("table[data-sort]")) sortable(table, order);
          }
        } catch {
          for (const tr of part.querySelectorAll("tbody tr")) tr.className = "stale"; // no connection: what is shown is old
          delete part.dataset.was;
        }
      }
      setTimeout(again, every);
    };
    setTimeout(again, every);
  }

  function sorting(table) {
    const th = table && table.querySelector("th[aria-sort]");
    return th && { column: th.cellIndex, direction: th.getAttribute("aria-sort") };
  }

  function sortable(table, order) {
    const heads = [...table.tHead.rows[0].cells];
    const value = (tr, i) => {
      const cell = tr.cells[i], t = cell.querySelector("time");
      const text = t ? t.dateTime : cell.textContent.trim();
      const n = parseFloat(text.replaceAll(",", ""));
      return cell.classList.contains("n") ? (isNaN(n) ? -Infinity : n) : text;
    };
    const sort = (i, direction) => {
      for (const h of heads) h.removeAttribute("aria-sort");
      heads[i].setAttribute("aria-sort", direction);
      const sign = direction === "ascending" ? 1 : -1;
      const rows = [...table.tBodies[0].rows].map((tr) => [value(tr, i), tr]);
      rows.sort(([a], [b]) => sign * (typeof a === "number" ? (a < b ? -1 : a > b ? 1 : 0) : a.localeCompare(b, undefined, { numeric: true })));
      table.tBodies[0].append(...rows.map(([, tr]) => tr));
    };
    heads.forEach((th, i) => {
      const b = document.createElement("button");
      b.className = "sort";
      b.type = "button";
      b.append(...th.childNodes);
      b.addEventListener("click", () => sort(i, th.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending"));
      th.append(b);
    });
    if (order) sort(order.column, order.direction);
    if (table.dataset.filter && !order) {
      const label = document.createElement("label"), input = document.createElement("input");
      label.className = "field filter";
      label.append(table.dataset.filter, input);
      input.type = "search";
      input.addEventListener("input", () => {
        const want = input.value.toLowerCase();
        for (const tr of table.tBodies[0].rows) tr.hidden = !tr.textContent.toLowerCase().includes(want);
      });
      table.parentElement.before(label);
      label.style.display = "block";
    }
  }

  // previewing asks, while somebody types, what would happen.
  function previewing(form) {
    const out = document.getElementById("effect");
    const idle = out.innerHTML;
    let timer, asked = 0;
    const line = (name, text, cls) => {
      const el = document.createElement(name);
      el.textContent = text;
      if (cls) el.className = cls;
      return el;
    };
    const ask = async () => {
      const edits = {}, mine = ++asked;
      for (const el of form.querySelectorAll(".field [name]")) {
        if (el.name === "reason" || el.value === el.defaultValue) continue;
        edits[el.name] = el.type === "number" && el.value !== "" ? Number(el.value) : el.value;
      }
      if (!Object.keys(edits).length) return void (out.innerHTML = idle);
      try {
        const answer = await fetch(`/api/v1/rooms/${encodeURIComponent(form.dataset.room)}/settings/preview`, {
          method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ edits }) });
        const p = await answer.json();
        if (mine !== asked) return;
        if (!answer.ok) return out.replaceChildren(line("p", p.title + ". " + (p.detail || ""), "wrong"));
        const parts = [];
        if (p.problems.length) parts.push(line("p", "This would be refused:", "wrong"));
        const list = document.createElement("ul");
        for (const x of p.problems) list.append(line("li", `${x.key} is ${x.value}; allowed: ${x.want}`));
        if (!p.problems.length) for (const c of p.changes) list.append(line("li", `${c.key} ${c.from || "(none)"} → ${c.to || "(none)"}`));
        parts.push(list);
        if (!p.problems.length) for (const e of p.effects) parts.push(line("p", e));
        if (!p.problems.length && !p.changes.length) parts.push(line("p", "Nothing differs from what is in force.", "muted"));
        out.replaceChildren(...parts);
      } catch {
        if (mine === asked) out.replaceChildren(line("p", "The console does not answer; nothing can be previewed now.", "wrong"));
      }
    };
    form.addEventListener("input", (e) => {
      if (e.target.name === "reason") return;
      clearTimeout(timer);
      timer = setTimeout(ask, 300);
    });
  }

  // room keeps a room's page live.
  function room(section) {
    const NS = "http://www.w3.org/2000/svg";
    const name = encodeURIComponent(section.dataset.room);
    const span = Number(section.dataset.minutes) * 60;
    const from = { arrivals: "arrivals_per_second", admissions: "admissions_per_second", rate: "rate_per_second" };
    const strip = document.getElementById("strip"), fill = document.getElementById("fill"), say = document.getElementById("say");
    const reading = document.getElementById("reading"), slider = document.getElementById("cursor"), list = document.getElementById("marks");
    const figures = [...section.querySelectorAll("figure")].map((el) => ({
      el, svg: el.querySelector(".plot > svg"), least: Number(el.dataset.least), rightLeast: Number(el.dataset.rightLeast),
      paths: [...el.querySelectorAll("path")].map((p) => ({ el: p, key: p.dataset.series, right: "right" in p.dataset, read: el.querySelector(`[data-read="${p.dataset.series}"]`) })),
    }));
    const keys = figures.flatMap((f) => f.paths.map((p) => p.key));
    const unknown = "–";
    let points = [], marks = new Map(), heard = performance.now(), phase = null, source = null, drawn = 0;
    let loaded = false; // until then the server's charts stay
    let cursor = null; // Unix seconds; null: the newest

    const number = (v, key) => {
      if (v === null || v === undefined) return unknown;
      if (["waiting", "inside", "at_door", "cap"].includes(key)) return Math.round(v).toLocaleString("en");
      return v >= 100 ? Math.round(v).toLocaleString("en") : v.toFixed(v >= 10 ? 1 : 2);
    };
    const nice = (v) => {
      const power = 10 ** Math.floor(Math.log10(v));
      return [1, 2, 5, 10].find((m) => v <= m * power * (1 + 1e-9)) * power;
    };
    const label = (v) => (v >= 10 || Number.isInteger(v) ? Math.round(v).toLocaleString("en") : String(+v.toPrecision(3)));
    const make = (tag, attributes, text) => {
      const el = document.createElementNS(NS, tag);
      for (const k in attributes) el.setAttribute(k, attributes[k]);
      if (text !== undefined) el.textContent = text;
      return el;
    };

    async function load() {
      try {
        const answer = await fetch(`/api/v1/rooms/${name}/history?seconds=${Math.min(3600, span + 30)}`);
        if (answer.status === 401) return location.reload();
        if (!answer.ok) return;
        const h = await answer.json();
        const newest = h.at.length ? h.at[h.at.length - 1] : 0;
        points = h.at.map((at, i) => {
          const p = { at };
          for (const k of keys) p[k] = k === "errors_percent" ? (h.error_ratio[i] === null ? null : h.error_ratio[i] * 100) : h[from[k] || k][i];
          return p;
        }).concat(points.filter((p) => p.at > newest));
        for (const m of h.marks) marks.set(m.at + m.text, m);
      } catch {
        // The feed tells that there is no connection.
      } finally {
        loaded = true;
        draw();
      }
    }

    function open() {
      if (source) source.close();
      source = new EventSource(`/rooms/${name}/feed`);
      source.addEventListener("look", (e) => take(JSON.parse(e.data)));
      source.onerror = () => {
        if (source.readyState === EventSource.CLOSED) setTimeout(open, 3000); // refused: too many viewers, or signed out
      };
    }

    function take(p) {
      heard = performance.now();
      for (const el of document.querySelectorAll("[data-w]")) {
        const text = p.words[el.dataset.w];
        if (text !== undefined && el.textContent !== text) el.textContent = text;
      }
      strip.dataset.tone = p.tone;
      section.classList.toggle("stale", p.tone === "stale");
      fill.value = p.fill;
      document.title = `${p.words.waiting} waiting · ${section.dataset.room} · Stanchion console`;
      if (phase !== null && phase !== p.words.phase) say.textContent = "Phase: " + p.words.phase;
      phase = p.words.phase;
      if (points.length && points[points.length - 1].at === p.point.at) points.pop();
      points.push(p.point);
      while (points.length && points[0].at < p.point.at - span - 60) points.shift();
      for (const m of p.marks) marks.set(m.at + m.text, m);
      const mine = set && set.elements.version.value;
      if (mine && p.version && p.version !== mine) {
        const note = document.getElementById("meanwhile");
        note.firstElementChild.textContent = p.who + " has changed the settings since this page was loaded.";
        note.hidden = false;
      }
      draw();
    }

    function draw() {
      if (document.hidden || !loaded || !points.length) return;
      const to = points[points.length - 1].at, start = to - span;
      drawn = to;
      const x = (at) => (at - start) / span;
      const percent = (at) => (100 * x(at)).toFixed(2) + "%";
      const width = Math.max(1, Math.ceil(span / 500));
      const step = { 300: 60, 900: 180, 3600: 600 }[span] || 60;
      const ticks = [];
      for (let t = Math.floor(start / step) * step + step; t < to; t += step) ticks.push(t);
      section.querySelector("[data-axis]").replaceChildren(...ticks.map((t) => {
        const d = new Date(t * 1000);
        return make("text", { x: percent(t), y: 13, "text-anchor": "middle" }, `${pad(d.getHours())}:${pad(d.getMinutes())}`);
      }));
      const shown = [...marks.values()].map((m) => ({ ...m, t: Date.parse(m.at) / 1000 })).filter((m) => m.t >= start && m.t <= to + 1);
      for (const f of figures) {
        let top = f.least, right = f.rightLeast || 1, any = false;
        for (const p of points) {
          if (p.at < start) continue;
          for (const s of f.paths) {
            const v = p[s.key];
            if (v === null || v === undefined) continue;
            any = true;
            if (s.right) right = Math.max(right, v);
            else top = Math.max(top, v);
          }
        }
        top = nice(top);
        right = nice(right);
        f.el.querySelector("[data-y=top]").textContent = label(top);
        f.el.querySelector("[data-y=mid]").textContent = label(top / 2);
        const r = f.el.querySelector("[data-y=right]");
        if (r) r.textContent = label(right);
        f.el.querySelector(".blank").hidden = any;
        for (const s of f.paths) s.el.setAttribute("d", trace(s.key, s.right ? right : top, start, to, width));
        f.svg.querySelector("[data-ticks]").replaceChildren(...ticks.map((t) => make("line", { class: "grid", x1: percent(t), x2: percent(t), y1: 0, y2: "100%" })));
        f.svg.querySelector("[data-marks]").replaceChildren(...shown.map((m) => {
          const el = make("line", { class: "mark " + m.kind, x1: percent(m.t), x2: percent(m.t), y1: 0, y2: "100%" });
          el.append(make("title", {}, m.text));
          return el;
        }));
      }
      const items = shown.sort((a, b) => b.t - a.t).map((m) => {
        const li = document.createElement("li"), t = document.createElement("time");
        li.className = m.kind;
        t.dateTime = m.at;
        t.textContent = clock(new Date(m.at));
        li.append(t, " " + m.text);
        return li;
      });
      if (items.length && list.dataset.n !== String(items.length) + items[0].textContent) {
        list.dataset.n = String(items.length) + items[0].textContent;
        list.replaceChildren(...items);
      }
      read();
    }

    // trace is the path of a series: the peak of each column, broken where nothing is known.
    function trace(key, scale, start, to, width) {
      let d = "", pen = false, last = 0;
      for (let i = 0; i < points.length; ) {
        const column = Math.floor((points[i].at - start) / width);
        let peak = null, at = points[i].at;
        for (; i < points.length && Math.floor((points[i].at - start) / width) === column; i++) {
          const v = points[i][key];
          if (v !== null && v !== undefined && (peak === null || v > peak)) {
            peak = v;
            at = points[i].at;
          }
        }
        if (at < start || at > to) continue;
        if (peak === null || (pen && at - last > 5 + 2 * width)) pen = false;
        if (peak === null) continue;
        d += `${pen ? "L" : "M"}${((1000 * (at - start)) / span).toFixed(1)} ${(100 - 100 * Math.min(peak / scale, 1)).toFixed(1)}`;
        pen = true;
        last = at;
      }
      return d;
    }

    // read shows the values under the cursor, or the newest.
    function read() {
      if (!drawn) return;
      const to = drawn, at = cursor === null ? to : Math.max(cursor, to - span);
      let found = null;
      for (const p of points) if (p.at <= at) found = p;
      if (found && at - found.at > 5) found = null;
      const share = 100 * (1 - (to - at) / span) + "%";
      for (const f of figures) {
        const c = f.svg.querySelector(".cursor");
        c.setAttribute("visibility", cursor === null ? "hidden" : "visible");
        c.setAttribute("x1", share);
        c.setAttribute("x2", share);
        for (const s of f.paths) s.read.textContent = found ? number(found[s.key], s.key) : unknown;
      }
      const when = clock(new Date(at * 1000));
      reading.textContent = cursor === null ? "Newest values. Move over the charts, or the slider, to read earlier ones. Times are local." : `Values at ${when}, local time.`;
      slider.value = span - (to - at);
      slider.setAttribute("aria-valuetext", cursor === null ? "newest" : when);
    }

    slider.closest("label").hidden = false;
    slider.max = slider.value = span;
    slider.addEventListener("input", () => {
      const v = Number(slider.value);
      cursor = v >= span ? null : drawn - span + v;
      read();
    });
    for (const f of figures) {
      f.svg.addEventListener("pointermove", (e) => {
        const box = f.svg.getBoundingClientRect();
        if (drawn) cursor = Math.round(drawn - span * (1 - (e.clientX - box.left) / box.width));
        read();
      });
      f.svg.addEventListener("pointerleave", () => {
        cursor = null;
        read();
      });
    }

    // Without news the page must say so itself, each second.
    setInterval(() => {
      const silent = (performance.now() - heard) / 1000;
      if (silent <= 3) return;
      strip.dataset.tone = "stale";
      section.classList.add("stale");
      strip.querySelector("[data-w=age]").textContent = Math.round(silent) + " s";
      strip.querySelector("[data-w=error]").textContent = "No connection to the console.";
    }, 1000);

    // A hidden page needs no stream: browsers open few connections to one server, and other tabs need them.
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) {
        source.close();
      } else {
        heard = performance.now();
        load();
        open();
      }
    });
    load();
    open();
  }
})();
