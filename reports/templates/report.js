"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);

function make(tag, attributes = {}, ...children) {
  const svg = ["svg", "path", "line", "rect", "text", "g"].includes(tag);
  const element = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function fill(select, names, shown = {}) {
  const before = select.value;
  select.replaceChildren(...names.map((name) => make("option", { value: name }, shown[name] ?? name)));
  if (names.includes(before)) select.value = before;
}

// A long name is broken before a bracket or after a comma or semicolon, where there is no room
const named = (name) => name.split(/(?<=[,;])|(?=\[)/).flatMap((part) => [make("wbr"), part]);

const number = (value, digits) => (value === null || value === undefined ? "–" : value.toFixed(digits));

// Scores
let sorting = { column: "dice", descending: true };

function showScores() {
  const dataset = byId("score-dataset").value;
  fill(byId("score-policy"), data.policies);
  const policy = byId("score-policy").value;
  const rows = data.scores.filter((row) => row.dataset === dataset && row.policy === policy);
  const columns = data.columns.filter((column) => rows.some((row) => row.values[column.name]));
  const direction = sorting.descending ? -1 : 1;
  const key = (row) => (sorting.column === "method" ? row.method : row.values[sorting.column]?.value ?? null);
  rows.sort((a, b) => {
    const [x, y] = [key(a), key(b)];
    if (x === null || y === null) return (x === null) - (y === null);
    return direction * (x < y ? -1 : x > y ? 1 : 0);
  });
  const header = make("tr");
  for (const column of [{ name: "method", title: "method" }, ...columns]) {
    const state = sorting.column === column.name ? (sorting.descending ? "descending" : "ascending") : "none";
    const button = make("button", { type: "button", "data-column": column.name }, column.title);
    button.addEventListener("click", () => {
      const again = sorting.column === column.name;
      sorting = { column: column.name, descending: again ? !sorting.descending : column.better === "higher" };
      showScores();
      document.querySelector(`#score-table button[data-column="${column.name}"]`).focus();
    });
    header.append(make("th", { scope: "col", "aria-sort": state, class: column.name === "method" ? "" : "number" }, button));
  }
  const legal = rows.filter((row) => !row.oracle && row.ranked);
  const best = {};
  for (const column of columns) {
    const values = legal.map((row) => row.values[column.name]?.value).filter((value) => value !== undefined);
    if (column.better !== "neither" && values.length) best[column.name] = column.better === "higher" ? Math.max(...values) : Math.min(...values);
  }
  const body = rows.map((row) => {
    const line = make("tr", { class: row.oracle ? "oracle" : "" }, make("th", { scope: "row" }, ...named(row.method), row.told ? ` (${row.told})` : ""));
    for (const column of columns) {
      const score = row.values[column.name];
      const cell = make("td", { class: "number" }, number(score?.value, column.digits));
      const first = score && !row.oracle && row.ranked && score.value === best[column.name];
      if (first) cell.classList.add("best");
      if (column.name === "dice" && row.tied && !first) cell.append("†");
      for (const spread of score?.spread ?? []) cell.append(make("small", {}, spread));
      line.append(cell);
    }
    return line;
  });
  document.querySelector("#score-table caption").textContent = `${dataset}: masks of ${policy}`;
  document.querySelector("#score-table thead").replaceChildren(header);
  document.querySelector("#score-table tbody").replaceChildren(...body);
  hintAtMore();
}

// Says above each table whether it goes on beyond its edge
function hintAtMore() {
  for (const wide of document.querySelectorAll(".wide")) wide.previousElementSibling.hidden = wide.scrollWidth <= wide.clientWidth;
}

// DICE over the threshold; the horizontal axis is the logarithm of the share of normal pixels
const [LOW, HEIGHT, LEFT, BOTTOM] = [1e-4, 320, 48, 40];
let width = 720; // as wide as there is room, so that letters keep their size
const place = (share) => LEFT + (width - LEFT - 12) * (Math.log10(Math.max(share, LOW) / LOW) / -Math.log10(LOW));
const level = (dice, top) => HEIGHT - BOTTOM - (HEIGHT - BOTTOM - 12) * (dice / top);

function diceAt(curve, share) {
  const index = curve.share.findIndex((one) => one >= share);
  if (index === 0) return curve.dice[0];
  if (index < 0) return curve.dice[curve.dice.length - 1];
  const [a, b] = [curve.share[index - 1], curve.share[index]];
  const part = b > a ? (share - a) / (b - a) : 1;
  return curve.dice[index - 1] + part * (curve.dice[index] - curve.dice[index - 1]);
}

const lineOf = (name) => ({ fill: "none", "stroke-width": 2, stroke: data.looks[name].colour, "stroke-dasharray": data.looks[name].dash });

function showCurves() {
  width = Math.max(280, byId("curves").clientWidth);
  const curves = data.curves[byId("curve-dataset").value] ?? {};
  const names = Object.keys(curves);
  const share = LOW ** (1 - byId("share").value / 100);
  byId("share-text").textContent = `${Number((100 * share).toPrecision(2))} %`;
  const top = Math.max(0.1, ...names.flatMap((name) => curves[name].dice)) * 1.05;
  const svg = make("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", "aria-label": "DICE of each method over the share of normal pixels called anomalous; the table below has the values at the slider" });
  for (let step = 0; step <= 4; step += 1) {
    const value = (top * step) / 4;
    svg.append(make("line", { x1: LEFT, x2: width - 12, y1: level(value, top), y2: level(value, top), stroke: "#ddd" }));
    svg.append(make("text", { x: LEFT - 6, y: level(value, top) + 4, "text-anchor": "end" }, value.toFixed(2)));
  }
  for (const tick of [1e-4, 1e-3, 1e-2, 1e-1, 1]) {
    svg.append(make("text", { x: place(tick), y: HEIGHT - BOTTOM + 16, "text-anchor": tick === 1 ? "end" : "middle" }, `${100 * tick} %`));
  }
  svg.append(make("text", { x: (LEFT + width) / 2, y: HEIGHT - 6, "text-anchor": "middle" }, "share of normal pixels called anomalous"));
  for (const name of names) {
    const { share: shares, dice } = curves[name];
    const path = shares.map((one, index) => `${index ? "L" : "M"}${place(one).toFixed(1)} ${level(dice[index], top).toFixed(1)}`).join("");
    svg.append(make("path", { d: path, ...lineOf(name) }));
  }
  svg.append(make("line", { x1: place(share), x2: place(share), y1: 12, y2: HEIGHT - BOTTOM, stroke: "#1a1a1a", "stroke-dasharray": "4 3" }));
  byId("curves").replaceChildren(svg);
  const rows = names.map((name) => ({ name, dice: diceAt(curves[name], share), best: Math.max(...curves[name].dice) }));
  rows.sort((a, b) => b.dice - a.dice);
  const seeds = [...new Set(names.map((name) => curves[name].seed))];
  document.querySelector("#curve-table caption").textContent = `DICE at the slider's threshold, of seed ${seeds.join(" or ")} alone`;
  document.querySelector("#curve-table tbody").replaceChildren(...rows.map((row) => make("tr", {},
    make("th", { scope: "row" }, make("svg", { class: "swatch", viewBox: "0 0 32 12", "aria-hidden": true }, make("path", { d: "M0 6L32 6", ...lineOf(row.name) })), ...named(row.name)),
    make("td", { class: "number" }, number(row.dice, 3)), make("td", { class: "number" }, number(row.best, 3)))));
  hintAtMore();
}

// Cases
let current = "";

function shownCases() {
  const [low, high] = [Number(byId("dice-low").value), Number(byId("dice-high").value)];
  const method = byId("case-method").value;
  return (data.cases[byId("case-dataset").value] ?? [])
    .filter((one) => method in one.dice && one.dice[method] >= low && one.dice[method] <= high)
    .sort((a, b) => a.dice[method] - b.dice[method]);
}

function showCases() {
  const dataset = byId("case-dataset").value;
  fill(byId("case-method"), [...new Set((data.cases[dataset] ?? []).flatMap((one) => Object.keys(one.dice)))]);
  const method = byId("case-method").value;
  const cases = shownCases();
  if (!cases.some((one) => one.case === current)) current = cases[0]?.case ?? "";
  byId("case-count").textContent = `${cases.length} cases, worst first`;
  byId("case-list").replaceChildren(...cases.map((one) => {
    const button = make("button", { type: "button", "aria-current": one.case === current, tabindex: one.case === current ? 0 : -1 }, `${number(one.dice[method], 3)}  ${one.case}`);
    button.addEventListener("click", () => { current = one.case; showCases(); focusCase(); });
    return button;
  }));
  showCase(dataset, method, cases.find((one) => one.case === current));
}

function focusCase() {
  const button = document.querySelector('#case-list [aria-current="true"]');
  button?.focus();
  button?.scrollIntoView({ block: "nearest" });
}

function showCase(dataset, method, one) {
  byId("case").replaceChildren();
  if (!one) return;
  let note = "";
  const images = data.images[dataset]?.[one.case];
  if (images) {
    const stack = make("button", { type: "button", class: "stack zoom", "aria-label": `Enlarge case ${one.case}` }, make("img", { src: images.image, alt: `Image of case ${one.case}` }));
    const made = images.methods[method];
    const layers = { map: made?.map, truth: images.truth, mask: made?.mask };
    for (const [layer, uri] of Object.entries(layers)) {
      if (!uri) continue;
      const picture = make("img", { src: uri, "data-layer": layer, alt: { map: `Anomaly map of ${method}`, truth: "Ground truth, green", mask: `Mask of ${method}, orange` }[layer] });
      picture.hidden = !byId(`show-${layer}`).checked;
      stack.append(picture);
    }
    if (made?.prompts.length && byId("show-prompt").checked) stack.append(prompts(made.prompts, images.size));
    byId("case").append(stack);
    note = made ? `; the picture is of seed ${made.seed}` : "";
  }
  const rows = Object.entries(one.dice).sort((a, b) => b[1] - a[1]).map(([name, dice]) =>
    make("tr", {}, make("th", { scope: "row" }, ...named(name)), make("td", { class: "number" }, number(dice, 3))));
  byId("case").append(make("table", {}, make("caption", {}, `${one.case}, patient ${one.patient}: DICE of each method, the mean of its seeds${note}`), make("tbody", {}, ...rows)));
}

// Points and boxes in the image's own pixels, white on black so that both stand out
function prompts(shapes, size) {
  const svg = make("svg", { viewBox: `-0.5 -0.5 ${size} ${size}`, role: "img", "aria-label": "Prompt, white", "data-layer": "prompt" });
  const arm = size / 32;
  for (const [stroke, part] of [["black", 96], ["white", 240]]) {
    for (const [x, y, x1, y1] of shapes) {
      const look = { stroke, fill: "none", "stroke-width": size / part };
      svg.append(x1 === undefined
        ? make("path", { d: `M${x - arm} ${y}H${x + arm}M${x} ${y - arm}V${y + arm}`, ...look })
        : make("rect", { x, y, width: x1 - x, height: y1 - y, ...look }));
    }
  }
  return svg;
}

// Pictures are enlarged in a dialog, which Escape closes
document.addEventListener("click", (event) => {
  const button = event.target.closest("button.zoom");
  if (!button) return;
  const copies = [...button.children].map((child) => child.cloneNode(true));
  const stack = button.classList.contains("stack") ? [make("div", { class: "stack" }, ...copies)] : copies;
  document.querySelector("#large > div").replaceChildren(...stack);
  byId("large").showModal();
});

byId("case-list").addEventListener("keydown", (event) => {
  const step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
  if (!step) return;
  event.preventDefault();
  const cases = shownCases();
  const index = cases.findIndex((one) => one.case === current) + step;
  if (index >= 0 && index < cases.length) { current = cases[index].case; showCases(); focusCase(); }
});

for (const id of ["score-dataset", "curve-dataset", "case-dataset"]) fill(byId(id), Object.keys(data.datasets), data.datasets);
for (const id of ["score-dataset", "score-policy"]) byId(id).addEventListener("change", showScores);
for (const id of ["curve-dataset", "share"]) byId(id).addEventListener("input", showCurves);
for (const id of ["case-dataset", "case-method", "dice-low", "dice-high", "show-truth", "show-map", "show-mask", "show-prompt"]) byId(id).addEventListener("input", showCases);
showScores();
showCurves();
showCases();
window.addEventListener("resize", showCurves);
