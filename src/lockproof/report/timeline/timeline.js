"use strict";
// Draws the lanes of a history on a canvas: only what is in view, so that 10,000 operations stay quick.
(() => {
  const data = JSON.parse(document.getElementById("history").textContent);
  const names = data.columns;
  const ops = data.operations.map((row, n) => Object.fromEntries([["n", n], ...names.map((c, k) => [c, row[k]])]));
  const OK = 0, REFUSED = 1, UNKNOWN = 2, GLYPH = ["✓", "✗", "?"];
  const ROW = 20, PAD = 6, GUTTER = 132, AXIS = 24, TAIL = 26, FONT = "11px ui-monospace, monospace", CHAR = 6.7;
  const at = (id) => document.getElementById(id);
  const canvas = at("lanes"), overview = at("overview"), stage = at("stage"), tip = at("tip"), detail = at("detail");
  const witness = new Map(data.witness.map((n, k) => [n, k + 1]));
  const state = { byTime: data.by_time, few: false, x0: 0, x1: 1, top: 0, focus: -1, hover: -1, turn: -1 };
  let colour = {}, width = 0, height = 0, lanes = [], rows = [], scheduled = false;

  // --- where things are: an axis of time or of event numbers, lanes with rows below each other --------
  const start = (op) => (state.byTime ? op.t0 : op.i);
  const outcome = (op) => (state.byTime ? op.t1 : op.e);
  const end = (op) => (op.e < 0 ? start(op) : outcome(op)); // without an outcome: only the call is known
  const position = (event) => (state.byTime ? event[1] : event[0]);
  const extent = () => {
    const [first, last] = state.byTime ? data.time : [0, data.events];
    const pad = Math.max((last - first) * 0.02, 1);
    return [first - pad, last + pad];
  };
  const x = (value) => GUTTER + ((value - state.x0) / (state.x1 - state.x0)) * (width - GUTTER);
  const value = (px) => state.x0 + ((px - GUTTER) / (width - GUTTER)) * (state.x1 - state.x0);

  function arrange() {
    const kept = new Set(data.witness.map((n) => ops[n].lane));
    let y = 0;
    lanes = data.lanes.map((lane, number) => {
      const shown = !state.few || kept.has(number);
      const place = { ...lane, number, shown, y, height: shown ? lane.rows * ROW + PAD : 0 };
      y += place.height;
      return place;
    });
    rows = data.lanes.map((lane) => Array.from({ length: lane.rows }, () => []));
    for (const op of ops) rows[op.lane][op.row].push(op); // calls come in order, so each row is sorted
    state.bottom = y;
    state.top = Math.max(0, Math.min(state.top, y - (height - AXIS)));
  }
  const top = (op) => AXIS + lanes[op.lane].y + PAD / 2 + op.row * ROW - state.top;

  function firstIn(row, from) { // the first of a sorted row that may reach into view
    let low = 0, high = row.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (start(row[middle]) < from) low = middle + 1;
      else high = middle;
    }
    return Math.max(0, low - 1);
  }

  // --- drawing ---------------------------------------------------------------------------------------
  function draw() {
    scheduled = false;
    const pen = prepare(canvas, width, height);
    pen.font = FONT;
    pen.textBaseline = "middle";
    pen.fillStyle = colour.page;
    pen.fillRect(0, 0, width, height);
    for (const lane of lanes) if (lane.shown && lane.number % 2) fill(pen, colour.stripe, 0, AXIS + lane.y - state.top, width, lane.height);
    pen.save();
    pen.beginPath();
    pen.rect(GUTTER, AXIS, width - GUTTER, height - AXIS);
    pen.clip();
    drawFaults(pen);
    drawHolds(pen);
    for (const lane of lanes) if (visible(lane)) rows[lane.number].forEach((row) => drawRow(pen, row));
    for (const n of data.witness) ring(pen, ops[n], colour.witness, 2.5, witness.get(n));
    if (state.focus >= 0) ring(pen, ops[state.focus], colour.focus, 2, 0);
    pen.restore();
    drawNames(pen);
    drawAxis(pen);
    drawOverview();
  }
  const visible = (lane) => lane.shown && lane.y + lane.height > state.top && lane.y - state.top < height - AXIS;

  function fill(pen, style, left, y, w, h) {
    pen.fillStyle = style;
    pen.fillRect(left, y, w, h);
  }
  function span(op) { // left and right edge in pixels
    const left = x(start(op)), right = op.e < 0 ? left + 4 : x(end(op));
    return [left, Math.max(right, left + 2.5)];
  }
  function drawRow(pen, row) {
    let painted = -1, kind = -1;
    for (let k = firstIn(row, state.x0); k < row.length && start(row[k]) <= state.x1; k++) {
      const op = row[k], [left, right] = span(op);
      if (right + TAIL < GUTTER || (right <= painted && op.kind === kind)) continue; // nothing new to see
      painted = right;
      kind = op.kind;
      drawBar(pen, op, Math.max(left, GUTTER - 9), Math.min(right, width + 9));
    }
  }
  function drawBar(pen, op, left, right) {
    const y = top(op), w = right - left, bar = ROW - 4;
    let ink = colour.ok_ink;
    if (op.kind === OK) fill(pen, colour.ok, left, y + 1, w, bar);
    else if (op.kind === REFUSED) { // lower and hollow
      ink = colour.refused;
      fill(pen, colour.page, left, y + 3, w, bar - 2);
      stroke(pen, ink, 1.5, [], () => pen.rect(left + 0.75, y + 3.75, Math.max(w - 1.5, 1), bar - 3.5));
    } else { // dashed and open to the right: it may take effect at any later time
      ink = colour.unknown;
      stroke(pen, ink, 1.5, [4, 2], () => {
        pen.moveTo(right, y + 1.5), pen.lineTo(left, y + 1.5), pen.lineTo(left, y + bar), pen.lineTo(right, y + bar);
      });
      const middle = y + 1 + bar / 2, far = witness.has(op.n) || state.focus === op.n ? width : right + TAIL;
      stroke(pen, ink, 1, [2, 3], () => (pen.moveTo(right, middle), pen.lineTo(far - 4, middle)));
      stroke(pen, ink, 1.5, [], () => (pen.moveTo(far - 9, middle - 4), pen.lineTo(far - 4, middle), pen.lineTo(far - 9, middle + 4)));
    }
    const from = Math.max(left, GUTTER), room = Math.floor((right - from - 6) / CHAR);
    if (room < 1) return;
    const text = room < op.f.length + 2 ? GLYPH[op.kind] : `${GLYPH[op.kind]} ${op.label}`.slice(0, room);
    pen.fillStyle = ink;
    pen.fillText(text, from + 4, y + (op.kind === REFUSED ? 10.5 : 9.5));
  }
  function stroke(pen, style, lineWidth, dash, path) {
    pen.strokeStyle = style;
    pen.lineWidth = lineWidth;
    pen.setLineDash(dash);
    pen.beginPath();
    path();
    pen.stroke();
    pen.setLineDash([]);
  }
  function drawHolds(pen) {
    for (const [n, i, t] of data.holds) {
      const op = ops[n], lane = lanes[op.lane];
      if (!visible(lane)) continue;
      const left = x(end(op)), right = i < 0 ? width : x(position([i, t]));
      fill(pen, colour.hold, left, top(op) - 1, Math.max(right - left, 1), ROW);
    }
  }
  function drawFaults(pen) {
    data.faults.forEach((fault, k) => {
      const left = x(position(fault.start)), right = fault.stop === null ? width : x(position(fault.stop));
      if (right < GUTTER || left > width) return;
      fill(pen, colour.fault, left, AXIS, Math.max(right - left, 2), height - AXIS);
      stroke(pen, colour.fault_ink, 1, [3, 3], () => {
        for (const edge of [left, right]) pen.moveTo(edge, AXIS), pen.lineTo(edge, height);
      });
      pen.fillStyle = colour.fault_ink;
      pen.fillText(fault.text, Math.max(left, GUTTER) + 4, height - 10 - (k % 4) * 13);
    });
  }
  function ring(pen, op, style, lineWidth, number) {
    if (!visible(lanes[op.lane])) return;
    const [left, right] = span(op), y = top(op);
    stroke(pen, style, lineWidth, [], () => pen.rect(left - 3, y - 1.5, right - left + 6, ROW - 1));
    if (!number) return;
    fill(pen, style, left - 17, y - 1.5, 14, ROW - 1);
    pen.fillStyle = colour.page;
    pen.fillText(String(number), left - 14, y + 9);
  }
  function drawNames(pen) {
    fill(pen, colour.page, 0, AXIS, GUTTER, height - AXIS);
    for (const lane of lanes) {
      if (!visible(lane)) continue;
      const y = AXIS + lane.y - state.top, room = Math.floor((GUTTER - 16) / CHAR);
      if (lane.number % 2) fill(pen, colour.stripe, 0, y, GUTTER, lane.height);
      pen.fillStyle = colour.ink;
      pen.fillText(lane.name.length > room ? `${lane.name.slice(0, room - 1)}…` : lane.name, 8, y + lane.height / 2);
    }
    fill(pen, colour.line, GUTTER - 1, 0, 1, height);
  }
  function drawAxis(pen) {
    fill(pen, colour.page, 0, 0, width, AXIS);
    fill(pen, colour.line, 0, AXIS - 1, width, 1);
    pen.fillStyle = colour.soft;
    const range = state.x1 - state.x0, rough = range / Math.max(2, (width - GUTTER) / 110);
    const power = 10 ** Math.floor(Math.log10(rough));
    let step = [1, 2, 5, 10].find((m) => m * power >= rough) * power;
    if (!state.byTime) step = Math.max(1, Math.round(step));
    for (let tick = Math.ceil(state.x0 / step) * step; tick <= state.x1; tick += step) {
      const px = x(tick);
      if (px < GUTTER) continue;
      fill(pen, colour.line, px, AXIS - 6, 1, 6);
      pen.fillStyle = colour.soft;
      pen.fillText(state.byTime ? clock(tick, step) : `#${tick}`, px + 3, 10);
    }
    pen.fillText(state.byTime ? "time" : "event", 8, 10);
  }
  function clock(nanoseconds, step) {
    const [unit, name] = step >= 1e9 ? [1e9, "s"] : step >= 1e6 ? [1e6, "ms"] : step >= 1e3 ? [1e3, "µs"] : [1, "ns"];
    const shown = state.x1 > 1e10 && unit < 1e9 ? [1e9, "s"] : state.x1 > 1e7 && unit < 1e6 ? [1e6, "ms"] : [unit, name];
    const digits = Math.max(0, Math.round(Math.log10(shown[0])) - Math.floor(Math.log10(step)));
    return `${(nanoseconds / shown[0]).toFixed(digits)} ${shown[1]}`;
  }
  function drawOverview() {
    const w = overview.clientWidth, h = overview.clientHeight, pen = prepare(overview, w, h), [first, last] = extent();
    const px = (v) => ((v - first) / (last - first)) * w;
    fill(pen, colour.page, 0, 0, w, h);
    for (const fault of data.faults) {
      const left = px(position(fault.start)), right = fault.stop === null ? w : px(position(fault.stop));
      fill(pen, colour.fault, left, 0, Math.max(right - left, 1), h);
    }
    const style = [colour.ok, colour.refused, colour.unknown], band = (h - 4) / 3;
    const painted = [new Set(), new Set(), new Set()];
    for (const op of ops) {
      const left = Math.floor(px(start(op)));
      if (painted[op.kind].has(left)) continue;
      painted[op.kind].add(left);
      fill(pen, style[op.kind], left, 2 + op.kind * band, 1, band);
    }
    for (const n of data.witness) fill(pen, colour.witness, px(start(ops[n])) - 1, 0, 3, h);
    pen.globalAlpha = 0.14;
    fill(pen, colour.ink, px(state.x0), 0, Math.max(px(state.x1) - px(state.x0), 2), h);
    pen.globalAlpha = 1;
  }
  function prepare(target, w, h) {
    const ratio = window.devicePixelRatio || 1;
    if (target.width !== Math.round(w * ratio) || target.height !== Math.round(h * ratio)) {
      target.width = Math.round(w * ratio);
      target.height = Math.round(h * ratio);
    }
    const pen = target.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    return pen;
  }
  function redraw() {
    if (!scheduled) scheduled = true, requestAnimationFrame(draw);
  }

  // --- moving about ----------------------------------------------------------------------------------
  function look(x0, x1) {
    const [first, last] = extent(), least = state.byTime ? 1000 : 4;
    const range = Math.min(Math.max(x1 - x0, least), last - first);
    const middle = (x0 + x1) / 2;
    state.x0 = Math.min(Math.max(middle - range / 2, first), last - range);
    state.x1 = state.x0 + range;
    redraw();
  }
  const zoom = (factor, around = (state.x0 + state.x1) / 2) =>
    look(around - (around - state.x0) * factor, around + (state.x1 - around) * factor);
  const pan = (share) => look(state.x0 + share * (state.x1 - state.x0), state.x1 + share * (state.x1 - state.x0));
  function scroll(to) {
    state.top = Math.max(0, Math.min(to, state.bottom - (height - AXIS)));
    redraw();
  }
  function reveal(list) {
    const edges = list.map((op) => lanes[op.lane]);
    const low = Math.min(...edges.map((lane) => lane.y)), high = Math.max(...edges.map((lane) => lane.y + lane.height));
    if (low < state.top || high > state.top + height - AXIS) scroll(low - PAD);
  }
  function goToWitness() {
    const told = data.witness.map((n) => ops[n]);
    const reach = (op) => { const lane = data.lanes.slice(0, op.lane + 1); return lane.reduce((sum, l) => sum + l.rows * ROW + PAD, 0); };
    const spread = Math.max(...told.map(reach)) - Math.min(...told.map(reach));
    if (!state.few && spread > height - AXIS - 2 * ROW) setFew(true);
    const first = Math.min(...told.map(start)), last = Math.max(...told.map(end)), pad = Math.max((last - first) * 0.15, state.byTime ? 2000 : 2);
    look(first - pad, last + pad);
    reveal(told);
  }
  function setFew(few) {
    state.few = few;
    at("filter").textContent = few ? "Lanes: witness" : "Lanes: all";
    at("filter").setAttribute("aria-pressed", String(few));
    arrange();
    redraw();
  }
  function setAxis(byTime) {
    const centre = state.focus >= 0 ? ops[state.focus] : null;
    const [first, last] = extent(), share = (state.x1 - state.x0) / (last - first);
    const middle = ops.find((op) => start(op) >= (state.x0 + state.x1) / 2) || ops[ops.length - 1];
    state.byTime = byTime;
    at("axis").textContent = byTime ? "Axis: time" : "Axis: order";
    at("axis").setAttribute("aria-pressed", String(!byTime));
    const [begin, finish] = extent(), half = (share * (finish - begin)) / 2, around = start(centre || middle);
    look(around - half, around + half);
  }
  function focus(n) {
    const op = ops[n];
    if (!op) return;
    if (state.few && !lanes[op.lane].shown) setFew(false);
    state.focus = n;
    const range = state.x1 - state.x0;
    if (start(op) < state.x0 || end(op) > state.x1) look(start(op) - range / 2, start(op) + range / 2);
    reveal([op]);
    describe(op);
    redraw();
  }

  // --- words -----------------------------------------------------------------------------------------
  const milliseconds = (t) => `${(t / 1e6).toFixed(3)} ms`;
  function describe(op) {
    const fields = [
      ["client", `${data.lanes[op.lane].name} (process ${op.p})`],
      ["call", op.f], ["workspace", op.ws === null ? "" : op.ws],
      ["called", `${milliseconds(op.t0)}, event #${op.i}`],
      [op.kind === UNKNOWN ? "gave up" : "returned", op.e < 0 ? "never" : `${milliseconds(op.t1)}, event #${op.e}, after ${milliseconds(op.t1 - op.t0)}`],
      ["outcome", ["ok", "refused: no effect", "unknown: it may take effect at any time after the call, or never"][op.kind]],
      ["in", op.in], ["out", op.out], ["err", op.err],
    ];
    const list = document.createElement("dl");
    for (const [name, text] of fields) {
      if (!text) continue;
      list.append(cell("dt", name), cell("dd", text));
    }
    const head = witness.has(op.n) ? `${witness.get(op.n)}. of the witness: ${op.line}` : op.line;
    detail.replaceChildren(cell("div", head), list);
  }
  function cell(tag, text) {
    const element = document.createElement(tag);
    element.textContent = text;
    return element;
  }
  function point(event) {
    const box = canvas.getBoundingClientRect(), px = event.clientX - box.left, py = event.clientY - box.top;
    const found = hit(px, py);
    canvas.classList.toggle("over", found >= 0);
    if (found !== state.hover) {
      state.hover = found;
      tip.hidden = found < 0;
      if (found >= 0) {
        const op = ops[found];
        tip.textContent = [op.line, op.in && `in ${op.in}`, op.out && `out ${op.out}`, op.err && `err ${op.err}`].filter(Boolean).join("\n");
        tip.style.whiteSpace = "pre-wrap";
        describe(op);
      } else if (state.focus >= 0) describe(ops[state.focus]);
    }
    if (found >= 0) {
      tip.style.left = `${Math.max(4, Math.min(px + 14, width - tip.offsetWidth - 8))}px`;
      tip.style.top = `${py + 18 + tip.offsetHeight > height ? Math.max(4, py - tip.offsetHeight - 12) : py + 18}px`;
    }
  }
  function hit(px, py) {
    if (px < GUTTER || py < AXIS) return -1;
    const lane = lanes.find((l) => l.shown && py - AXIS + state.top >= l.y && py - AXIS + state.top < l.y + l.height);
    if (!lane) return -1;
    const index = Math.max(0, Math.min(lane.rows - 1, Math.floor((py - AXIS + state.top - lane.y - PAD / 2) / ROW)));
    const row = rows[lane.number][index];
    let best = -1, distance = 6;
    for (let k = firstIn(row, value(px - 8)); k < row.length; k++) {
      const [left, right] = span(row[k]);
      if (left > px + 6) break;
      const away = Math.max(left - px, px - right, 0);
      if (away < distance) best = row[k].n, distance = away;
    }
    return best;
  }

  // --- mouse, keys, buttons --------------------------------------------------------------------------
  let grip = null;
  canvas.addEventListener("pointerdown", (event) => {
    grip = { x: event.clientX, y: event.clientY, x0: state.x0, x1: state.x1, top: state.top, moved: false };
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!grip) return point(event);
    const dx = event.clientX - grip.x, dy = event.clientY - grip.y;
    grip.moved = grip.moved || Math.abs(dx) + Math.abs(dy) > 4;
    const shift = (dx / (width - GUTTER)) * (grip.x1 - grip.x0);
    look(grip.x0 - shift, grip.x1 - shift);
    scroll(grip.top - dy);
  });
  canvas.addEventListener("pointerup", (event) => {
    const box = canvas.getBoundingClientRect();
    if (grip && !grip.moved) focus(hit(event.clientX - box.left, event.clientY - box.top));
    grip = null;
  });
  canvas.addEventListener("pointercancel", () => (grip = null));
  canvas.addEventListener("pointerleave", () => ((state.hover = -1), (tip.hidden = true)));
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    const lines = event.deltaMode === 1 ? 16 : 1, along = event.shiftKey ? event.deltaY || event.deltaX : event.deltaX;
    if (event.altKey) scroll(state.top + event.deltaY * lines);
    else if (along) pan((along * lines) / 1000);
    else zoom(Math.exp(event.deltaY * lines * (event.ctrlKey ? 0.01 : 0.0015)), value(event.clientX - canvas.getBoundingClientRect().left));
  }, { passive: false });
  const seek = (event) => {
    const box = overview.getBoundingClientRect(), [first, last] = extent(), half = (state.x1 - state.x0) / 2;
    const middle = first + ((event.clientX - box.left) / box.width) * (last - first);
    look(middle - half, middle + half);
  };
  overview.addEventListener("pointerdown", (event) => (overview.setPointerCapture(event.pointerId), seek(event)));
  overview.addEventListener("pointermove", (event) => event.buttons && seek(event));

  function beside(step) { // the operation before or after in the lane, in the order of the calls
    if (state.focus < 0) return focus(ops.findIndex((op) => start(op) >= state.x0));
    const lane = ops[state.focus].lane;
    for (let n = state.focus + step; n >= 0 && n < ops.length; n += step) if (ops[n].lane === lane) return focus(n);
  }
  function across(step) { // the operation of the next lane that begins nearest to this one
    if (state.focus < 0) return beside(1);
    const here = ops[state.focus];
    for (let number = here.lane + step; number >= 0 && number < lanes.length; number += step) {
      const all = lanes[number].shown ? rows[number].flat() : [];
      if (all.length) return focus(all.reduce((a, b) => (Math.abs(start(b) - start(here)) < Math.abs(start(a) - start(here)) ? b : a)).n);
    }
  }
  function nextWitness() {
    if (!data.witness.length) return;
    state.turn = (state.turn + 1) % data.witness.length;
    focus(data.witness[state.turn]);
  }
  const everything = () => look(...extent());
  const keys = {
    ArrowLeft: (event) => (event.shiftKey ? pan(-0.2) : beside(-1)), ArrowRight: (event) => (event.shiftKey ? pan(0.2) : beside(1)),
    ArrowUp: () => across(-1), ArrowDown: () => across(1), Home: () => focus(0), End: () => focus(ops.length - 1),
    PageUp: () => scroll(state.top - height / 2), PageDown: () => scroll(state.top + height / 2),
    "+": () => zoom(0.6), "=": () => zoom(0.6), "-": () => zoom(1 / 0.6), 0: everything,
    w: nextWitness, W: () => data.witness.length && goToWitness(),
    a: () => setAxis(!state.byTime), l: () => data.witness.length && setFew(!state.few),
  };
  canvas.addEventListener("keydown", (event) => {
    const act = event.ctrlKey || event.metaKey || event.altKey ? undefined : keys[event.key];
    if (!act) return;
    event.preventDefault();
    act(event);
  });
  const press = (id, act) => at(id) && at(id).addEventListener("click", act);
  press("to-witness", goToWitness);
  press("everything", everything);
  press("closer", () => zoom(0.6));
  press("farther", () => zoom(1 / 0.6));
  press("left", () => pan(-0.4));
  press("right", () => pan(0.4));
  press("axis", () => setAxis(!state.byTime));
  press("filter", () => setFew(!state.few));
  document.querySelectorAll("[data-witness]").forEach((button) => button.addEventListener("click", () => {
    state.turn = Number(button.dataset.witness);
    focus(data.witness[state.turn]);
  }));

  // --- start -----------------------------------------------------------------------------------------
  function colours() {
    const style = getComputedStyle(document.documentElement);
    const name = ["page", "ink", "soft", "line", "stripe", "ok", "ok-ink", "refused", "unknown", "hold", "fault", "fault-ink", "witness", "focus"];
    colour = Object.fromEntries(name.map((n) => [n.replace("-", "_"), style.getPropertyValue(`--${n}`).trim()]));
  }
  function fit() {
    width = stage.clientWidth;
    height = stage.clientHeight;
    arrange();
    redraw();
  }
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => (colours(), redraw()));
  new ResizeObserver(fit).observe(stage);
  colours();
  width = stage.clientWidth;
  height = stage.clientHeight;
  arrange();
  setAxis(state.byTime);
  everything();
  if (data.witness.length) goToWitness();
})();
