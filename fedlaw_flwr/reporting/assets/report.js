// The report's charts and controls. Names come from silos: they reach the page as text only, never as HTML.
(async () => {
"use strict";
const root = document.documentElement;
const $ = (id) => document.getElementById(id);
const make = (tag, text, kind) => {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  if (kind) element.className = kind;
  return element;
};
const unpacked = async (id) => {
  const bytes = Uint8Array.from(atob($(id).textContent.trim()), (letter) => letter.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
};
if (typeof DecompressionStream === "undefined") {
  $("summary").append(make("p", "This browser is too old for the charts; the text and the tables are complete.", "warning"));
  return;
}
const D = JSON.parse(await unpacked("data"));
root.classList.remove("nojs");

// Colours and numbers ----------------------------------------------------------------------------------------------

const LIGHT = { ink: "#16202c", soft: "#566273", line: "#dde3ea", card: "#ffffff", blue: "#0b6cb8", orange: "#d9700f",
  grey: "#c9d0d8", dark: "#6b7683", ramp: ["#e9f5dc", "#a4dac2", "#58aecb", "#2b6cb0"], band: "#c9d6e3", out: "#f2a65a",
  lines: ["#0b6cb8", "#d9700f", "#00805f", "#a03c86", "#7a6200", "#3b3f46"] };
const DARK = { ink: "#e6ebf1", soft: "#9eabba", line: "#2b3643", card: "#171e27", blue: "#6db3f2", orange: "#f0a35e",
  grey: "#3a4552", dark: "#7d8a98", ramp: ["#17364a", "#1f6f84", "#4aa7ab", "#a5dcb4"], band: "#33475a", out: "#c8762a",
  lines: ["#6db3f2", "#f0a35e", "#4fc8a4", "#e08cc9", "#d8bf4d", "#b6c0ca"] };
const isDark = () => root.dataset.theme === "dark";
const C = () => (isDark() && !printing ? DARK : LIGHT);
let printing = false;

const percent = (value) => `${(100 * value).toFixed(1)} %`;
const short = (value) => {
  if (value === null || value === undefined) return "none";
  const size = Math.abs(value);
  if (value === 0 || (size >= 0.001 && size < 1e5)) return String(Number(value.toPrecision(4)));
  return value.toExponential(2);
};
const bytes = (count) => {
  const [unit, size] = [["GB", 1e9], ["MB", 1e6], ["kB", 1e3]].find(([, size]) => count >= size) || ["B", 1];
  return size === 1 ? `${Math.round(count)} B` : `${Number((count / size).toPrecision(4))} ${unit}`;
};
const SPECIAL = { accuracy: "Accuracy", loss: "Loss", auc: "Area under the ROC curve", "attack-success": "Backdoor's success",
  "validation-accuracy": "Accuracy on validation data", "validation-loss": "Loss on validation data" };
const PERCENT = ["accuracy", "attack-success", "validation-accuracy", "validation-attack-success"];
const metricName = (name) => SPECIAL[name] || name;
const isPercent = (name) => PERCENT.includes(name);

// State ------------------------------------------------------------------------------------------------------------

const R = D.rounds, numbers = R.number, rows = D.rows;
const last = numbers.length ? numbers[numbers.length - 1] : 0;
let silo = 0, round = last, axis = "round", metric = "accuracy", kind = "map", order = "verdict", unit = "bytes";
const at = new Map(numbers.map((number, index) => [number, index]));
const learnedAt = new Map(D.learned.number.map((number, index) => [number, index]));

// Charts -----------------------------------------------------------------------------------------------------------

const charts = {};
const plain = (lines) => {
  const box = make("div", undefined, "tip");
  lines.forEach((line, index) => box.append(index ? make("div", line) : make("b", line)));
  return box;
};
const base = () => {
  const c = C();
  return {
    animation: false, textStyle: { fontFamily: getComputedStyle(document.body).fontFamily, color: c.ink },
    tooltip: { confine: true, backgroundColor: c.card, borderColor: c.line, textStyle: { color: c.ink, fontSize: 12 } },
  };
};
const says = (text) => ({ enabled: true, label: { description: text } });
const grid = (more) => ({ left: 8, right: 18, top: 14, bottom: 8, containLabel: true, ...more });
const valueAxis = (more) => {
  const c = C();
  return { type: "value", axisLabel: { color: c.soft, fontSize: 12, hideOverlap: true }, axisLine: { show: false },
    axisTick: { show: false }, splitLine: { lineStyle: { color: c.line } }, nameTextStyle: { color: c.soft }, ...more };
};
const roundAxis = (more) => valueAxis({ min: Math.min(0, ...numbers), max: last || 1, minInterval: 1, splitLine: { show: false },
  axisLine: { show: true, lineStyle: { color: C().line } }, ...more });
const cursor = (x) => ({ symbol: "none", silent: true, animation: false, label: { show: false },
  lineStyle: { color: C().dark, type: "solid", width: 1 }, data: x === null ? [] : [{ xAxis: x }] });

function chart(id, build, renderer = "svg") {
  const element = $(id);
  if (!element) return;
  const one = { element, build, renderer };
  one.draw = () => {
    const option = build(one);
    const figure = element.closest("figure");
    if (figure) figure.hidden = !option;
    if (!option) return;
    if (!one.drawn || one.drawn.getDom() !== element) {
      one.drawn = echarts.init(element, null, { renderer });
      one.done = new Promise((resolve) => { one.drawn.on("finished", resolve); });
      one.drawn.on("click", (event) => one.click && one.click(event));
    }
    one.drawn.resize();
    one.drawn.setOption({ ...base(), ...option }, true);
  };
  charts[id] = one;
  one.draw();
}

// Accuracy and loss over rounds, bytes or seconds
const spentAt = (measured, index) => (axis === "round" ? measured.round : axis === "bytes" ? measured.bytes : measured.seconds)[index];
const AXES = { round: "round", bytes: "bytes exchanged", seconds: "seconds in rounds" };
function curve() {
  const shown = D.measured.filter((one) => one.metrics[metric]);
  if (!shown.length) return null;
  const c = C(), inPercent = isPercent(metric), scale = inPercent ? 100 : 1;
  const marks = D.measured[0].metrics[metric] ? D.marks.filter((mark) => mark.lost.length) : [];
  const own = D.measured[0];
  const xOf = (number) => { const index = own.round.indexOf(number); return index < 0 ? null : index; };
  const series = shown.map((one, index) => ({
    name: one.label, type: "line", color: c.lines[index % c.lines.length], symbol: one.round.length > 40 ? "none" : "circle",
    symbolSize: 6, lineStyle: { width: 2.5, type: index ? [[7, 4], [2, 3], [9, 3, 2, 3]][(index - 1) % 3] : "solid" },
    connectNulls: true,
    data: one.round.map((number, i) => [spentAt(one, i), one.metrics[metric][i] === null ? null : one.metrics[metric][i] * scale, number]),
  }));
  const found = xOf(round);
  series[0].markLine = cursor(found === null ? null : spentAt(own, found));
  const events = marks.map((mark) => ({ mark, index: xOf(mark.round) })).filter(({ index }) => index !== null);
  series.push({ name: "silos excluded", type: "scatter", symbol: "triangle", symbolSize: events.length > 30 ? 7 : 13, color: c.orange,
    data: events.map(({ mark, index }) => ({ value: [spentAt(own, index), own.metrics[metric][index] * scale], mark })), z: 5 });
  return {
    aria: says(`${metricName(metric)} over ${AXES[axis]}: from ${short(shown[0].metrics[metric][0])} to ${short(shown[0].metrics[metric].at(-1))}`),
    legend: shown.length > 1 ? { top: 0, textStyle: { color: c.ink }, type: "scroll", data: shown.map((one) => one.label) } : undefined,
    grid: grid({ top: shown.length > 1 ? 44 : 18, bottom: 26 }),
    xAxis: valueAxis({ name: AXES[axis], nameLocation: "middle", nameGap: 28, splitLine: { show: false }, minInterval: axis === "round" ? 1 : undefined,
      axisLine: { show: true, lineStyle: { color: c.line } }, max: "dataMax",
      axisLabel: { color: c.soft, fontSize: 12, hideOverlap: true, showMaxLabel: axis === "round", formatter: axis === "bytes" ? bytes : undefined } }),
    yAxis: valueAxis({ max: inPercent ? 100 : undefined, min: inPercent ? 0 : undefined,
      axisLabel: { color: c.soft, fontSize: 12, formatter: inPercent ? "{value} %" : undefined } }),
    tooltip: { ...base().tooltip, trigger: "item", formatter: ({ data, seriesName }) => plain(data.mark
      ? [`Round ${data.mark.round}`, `No weight from here on: ${data.mark.lost.slice(0, 12).join(", ")}${data.mark.lost.length > 12 ? ` and ${data.mark.lost.length - 12} more` : ""}`,
        ...(data.mark.back.length ? [`Counts again: ${data.mark.back.slice(0, 12).join(", ")}`] : [])]
      : [`${seriesName}, round ${data[2]}`, `${metricName(metric)}: ${inPercent ? `${data[1].toFixed(1)} %` : short(data[1])}`]) },
    series,
  };
}

// The map of weights: a row a silo, a column a round
const SAYS = { w: "counts", x: "no weight", r: "reply rejected", s: "no reply", a: "not online", "-": "no step" };
const sorted = () => {
  const all = rows.map((_, index) => index);
  return order === "verdict" ? all : all.sort((a, b) => rows[a].place - rows[b].place);
};
const hasWeights = D.silos.weight.length > 0;
const mostWeight = D.silos.weight.reduce((most, row) => row.reduce((a, b) => Math.max(a, b || 0), most), 0);
const knowsTruth = rows.some((row) => row.attack);
const stateOf = (index, column) => D.silos.state[index][column];
function tell(index, column) {
  const row = rows[index], lines = [row.name + (row.attack ? ` (attacker: ${row.attack})` : ""), `Round ${numbers[column]}: ${SAYS[stateOf(index, column)]}`];
  const weight = hasWeights ? D.silos.weight[index][column] : null;
  if (weight !== null) lines.push(`Weight ${short(weight)}`);
  if (D.silos.loss.length && D.silos.loss[index][column] !== null) lines.push(`Loss ${short(D.silos.loss[index][column])}`);
  return plain(lines);
}
function weightMap(map) {
  if (!numbers.length) return null;
  return kind === "map" || !hasWeights ? heat(map) : lines(map);
}
function heat(map) {
  const c = C(), shown = sorted(), n = shown.length, columns = numbers.length;
  const narrow = $("weight-map").clientWidth < 520;
  const height = Math.max(170, Math.min(n * (n > 60 ? 7 : 19), 1100)) + 62;
  $("weight-map").style.height = `${height}px`;
  const weights = [], special = [];
  shown.forEach((index, y) => {
    for (let x = 0; x < columns; x += 1) {
      const state = stateOf(index, x);
      if (state === "w") {
        weights.push([x, y, hasWeights ? D.silos.weight[index][x] : 1]);
      } else special.push([x, y, "xrsa-".indexOf(state)]);
    }
  });
  const left = narrow ? 76 : 124, stripe = knowsTruth ? 10 : 0;
  const names = shown.map((index) => rows[index].name);
  const yAxis = { type: "category", inverse: true, data: names, axisTick: { show: false }, axisLine: { show: false } };
  const zoomX = columns > 40, zoomY = n > 60;
  const markers = map.renderer === "canvas" ? [] : [{ xAxis: at.has(round) ? at.get(round) : columns - 1 }];
  const frozen = D.frozenAfter !== null && at.has(D.frozenAfter) ? [{ xAxis: at.get(D.frozenAfter), lineStyle: { type: "dashed", color: c.orange, width: 2 } }] : [];
  const option = {
    aria: says(`Weight of ${n} silos in ${columns} rounds; the table "Every silo" says the same in words`),
    grid: [{ left: left + stripe, right: zoomY ? 34 : 8, top: 6, bottom: zoomX ? 62 : 40 },
      ...(knowsTruth ? [{ left: left, width: 6, top: 6, bottom: zoomX ? 62 : 40 }] : [])],
    xAxis: [{ type: "category", data: numbers, name: "round", nameLocation: "middle", nameGap: 24, nameTextStyle: { color: c.soft }, axisTick: { show: false },
      axisLine: { lineStyle: { color: c.line } }, axisLabel: { color: c.soft, fontSize: 12, hideOverlap: true } },
      ...(knowsTruth ? [{ type: "category", gridIndex: 1, data: ["truth"], show: false }] : [])],
    yAxis: [{ ...yAxis, axisLabel: { color: c.ink, fontSize: 12, width: left - 12, overflow: "truncate", margin: 8 + stripe,
      interval: n > 60 ? Math.ceil((15 * n) / (height - 62)) - 1 : 0 } }, ...(knowsTruth ? [{ ...yAxis, gridIndex: 1, show: false }] : [])],
    visualMap: [
      { show: false, seriesIndex: 0, min: 0, max: hasWeights ? mostWeight || 1 : 2, inRange: { color: c.ramp } },
      { show: false, seriesIndex: 1, type: "piecewise", pieces: [{ value: 0, color: c.out }, { value: 1, color: c.dark }, { value: 2, color: c.dark },
        { value: 3, color: c.grey }, { value: 4, color: c.grey }] },
      ...(knowsTruth ? [{ show: false, seriesIndex: 2, type: "piecewise", pieces: [{ value: 1, color: isDark() && !printing ? "#e08cc9" : "#8a2b70" }, { value: 0, color: "rgba(0,0,0,0)" }] }] : []),
    ],
    dataZoom: [
      ...(zoomX ? [{ type: "slider", xAxisIndex: 0, height: 16, bottom: 4, showDetail: false, brushSelect: false },
        { type: "inside", xAxisIndex: 0, zoomOnMouseWheel: "ctrl", moveOnMouseWheel: false, moveOnMouseMove: "shift" }] : []),
      ...(zoomY ? [{ type: "slider", yAxisIndex: knowsTruth ? [0, 1] : [0], width: 16, right: 4, showDetail: false, brushSelect: false }] : []),
    ],
    tooltip: { ...base().tooltip, formatter: ({ data, seriesIndex }) => (seriesIndex === 2
      ? plain([rows[shown[data[1]]].name, rows[shown[data[1]]].attack ? `attacker: ${rows[shown[data[1]]].attack}` : "honest"]) : tell(shown[data[1]], data[0])) },
    series: [
      { type: "heatmap", data: weights, itemStyle: { borderColor: c.card, borderWidth: columns > 60 || n > 60 ? 0 : 1 }, progressive: 0,
        markLine: { ...cursor(null), data: [...markers, ...frozen] } },
      { type: "heatmap", data: special, itemStyle: { borderColor: c.card, borderWidth: columns > 60 || n > 60 ? 0 : 1 }, progressive: 0 },
      ...(knowsTruth ? [{ type: "heatmap", xAxisIndex: 1, yAxisIndex: 1, data: shown.map((index, y) => [0, y, rows[index].attack ? 1 : 0]) }] : []),
    ],
  };
  map.click = ({ data, seriesIndex }) => {
    if (seriesIndex < 2) setRound(numbers[data[0]]);
    pick(shown[data[1]], true);
  };
  return option;
}
function lines(map) {
  const c = C(), shown = sorted();
  $("weight-map").style.height = "26rem";
  map.click = ({ seriesIndex }) => pick(shown[seriesIndex], true);
  const many = shown.length > 30;
  return {
    aria: says(`Weight of ${shown.length} silos over ${numbers.length} rounds`),
    grid: grid({ bottom: 26 }),
    xAxis: roundAxis({ min: numbers[0], name: "round", nameLocation: "middle", nameGap: 28 }), yAxis: valueAxis({ min: 0 }),
    tooltip: { ...base().tooltip, trigger: "item", formatter: ({ seriesIndex, data }) => tell(shown[seriesIndex], at.get(data[0])) },
    series: shown.map((index, position) => ({
      name: rows[index].name, type: "line", symbol: numbers.length > 40 ? "none" : rows[index].mood === "in" ? "circle" : "diamond", symbolSize: 5, triggerLineEvent: true,
      color: rows[index].mood === "in" ? c.blue : c.orange, data: numbers.map((number, x) => [number, D.silos.weight[index][x]]),
      lineStyle: { width: index === silo ? 3.5 : 1.4, opacity: index === silo ? 1 : many ? 0.35 : 0.6, type: rows[index].mood === "in" ? "solid" : "dashed" },
      itemStyle: { opacity: index === silo ? 1 : 0.6 }, emphasis: { focus: "series" }, z: index === silo ? 5 : 2,
      ...(position === 0 ? { markLine: { ...cursor(null), data: [...(map.renderer === "canvas" ? [] : [{ xAxis: round }]),
        ...(D.frozenAfter === null ? [] : [{ xAxis: D.frozenAfter, lineStyle: { type: "dashed", color: c.orange, width: 2 } }])] } } : {}),
    })),
  };
}
function legend() {
  const list = $("weight-legend");
  if (!list) return;
  const c = C(), states = new Set(D.silos.state.flatMap((row) => [...row])), found = [];
  const key = (colour, text) => {
    const item = make("li"), box = make("span", undefined, "key");
    box.style.background = colour;
    item.append(box, text);
    found.push(item);
  };
  if (kind === "map" && hasWeights) {
    const item = make("li", "0"), ramp = make("span", undefined, "ramp");
    ramp.style.background = `linear-gradient(90deg, ${c.ramp.join(", ")})`;
    item.append(ramp, `weight ${short(mostWeight)}`);
    found.push(item);
  } else key(c.blue, "counts");
  if (kind === "lines" && hasWeights) key(c.orange, "had no weight at the end, or an attacker (dashed)");
  else {
    if (states.has("x")) key(c.out, hasWeights ? "no weight" : "left out");
    if (states.has("r") || states.has("s")) key(c.dark, "reply rejected or missing");
    if (states.has("a") || states.has("-")) key(c.grey, "not online, or no step");
    if (knowsTruth) key(isDark() ? "#e08cc9" : "#8a2b70", "stripe: attacker (known in experiments only)");
  }
  if (D.frozenAfter !== null) key("repeating-linear-gradient(90deg, " + c.orange + " 0 3px, transparent 3px 6px)", `dashed line: weights frozen after round ${D.frozenAfter}`);
  list.replaceChildren(...found);
}

// One silo
const quantile = (values, q) => {
  if (!values.length) return null;
  const place = (values.length - 1) * q, low = Math.floor(place);
  return values[low] + (values[Math.min(low + 1, values.length - 1)] - values[low]) * (place - low);
};
const spread = new Map();
function band(name, table) {
  if (!spread.has(name)) {
    const columns = table.length ? table[0].length : 0, found = [];
    for (let x = 0; x < columns; x += 1) {
      const values = table.map((row) => row[x]).filter((value) => value !== null).sort((a, b) => a - b);
      found.push([quantile(values, 0.1), quantile(values, 0.5), quantile(values, 0.9)]);
    }
    spread.set(name, found);
  }
  return spread.get(name);
}
function without() {
  const c = C(), found = [];
  let start = null;
  numbers.forEach((number, x) => {
    const is = stateOf(silo, x) === "x";
    if (is && start === null) start = number;
    if (start !== null && (!is || x === numbers.length - 1)) {
      found.push([{ xAxis: start - 0.5 }, { xAxis: (is ? number : numbers[x - 1]) + 0.5 }]);
      start = null;
    }
  });
  return { silent: true, itemStyle: { color: c.out, opacity: 0.22 }, data: found };
}
function one(title, values, more = {}) {
  const c = C(), xs = more.xs || numbers;
  if (!values || values.every((value) => value === null)) return null;
  const series = [];
  if (more.band) {
    const low = xs.map((x, i) => [x, more.band[i][0]]), span = xs.map((x, i) => [x, more.band[i][0] === null ? null : more.band[i][2] - more.band[i][0]]);
    series.push({ type: "line", stack: "band", symbol: "none", lineStyle: { opacity: 0 }, data: low, silent: true, tooltip: { show: false }, stackStrategy: "all" });
    series.push({ type: "line", stack: "band", symbol: "none", lineStyle: { opacity: 0 }, areaStyle: { color: c.band, opacity: 0.6 }, data: span, silent: true, stackStrategy: "all" });
    series.push({ name: "median", type: "line", symbol: "none", color: c.dark, lineStyle: { type: "dashed", width: 1.5 }, data: xs.map((x, i) => [x, more.band[i][1]]), silent: true });
  }
  if (more.limit) series.push({ name: more.limitName, type: "line", symbol: "none", color: c.orange, lineStyle: { type: "dashed", width: 2 }, data: xs.map((x, i) => [x, more.limit[i]]), silent: true });
  series.push({ name: "own", type: "line", color: c.blue, symbol: xs.length > 60 ? "none" : "circle", symbolSize: 6, lineStyle: { width: 2.5 },
    data: xs.map((x, i) => [x, values[i]]), markLine: cursor(round || null), markArea: more.area ? without() : undefined, z: 5 });
  return {
    aria: says(`${title} of ${rows[silo].name} over the rounds`),
    grid: grid({ right: 22 }), xAxis: roundAxis({ min: numbers[0] === last ? last - 1 : numbers[0] }),
    yAxis: valueAxis({ scale: more.top === undefined, max: more.top, axisLabel: { color: c.soft, fontSize: 12, formatter: short, hideOverlap: true } }),
    tooltip: { ...base().tooltip, trigger: "axis", axisPointer: { lineStyle: { color: c.soft } }, formatter: (items) => {
      const x = items[0].value[0], i = xs.indexOf(x);
      if (i < 0) return "";
      return plain([`Round ${x}`, `${title}: ${short(values[i])}`, ...(more.band ? [`Median of all: ${short(more.band[i][1])}`] : []),
        ...(more.limit ? [`${more.limitName}: ${short(more.limit[i])}`] : [])]);
    } },
    series,
  };
}
const TERMS = { before: D.decays ? "earlier rounds" : "weight before", alignment: "agreement", loss: "its loss" };
function terms() {
  const found = D.terms[rows[silo].name];
  $("terms-note").textContent = found
    ? `round ${found.round}: what each part added or took, against the median silo that got weight. Rank ${found.rank} of ${found.scored}.` : "";
  if (!found) return null;
  const c = C(), gap = found.score - found.lowest;
  const bars = [...found.terms.filter(([name]) => !D.bsum || name === "loss").map(([name, own, others, difference]) => ({ name: TERMS[name], difference, own, others })),
    ...(D.bsum ? [] : [{ name: gap < 0 ? "missed weight by" : "above the least by", difference: gap, total: true }])].reverse();
  return {
    aria: says(`The terms of the score of ${rows[silo].name} in round ${found.round}`),
    grid: { left: 118, right: 78, top: 4, bottom: 24 }, xAxis: valueAxis({ axisLabel: { color: c.soft, fontSize: 12, formatter: short, hideOverlap: true }, splitNumber: 3 }),
    yAxis: { type: "category", data: bars.map((bar) => bar.name), axisTick: { show: false }, axisLine: { show: false }, axisLabel: { color: c.ink, fontSize: 12 } },
    tooltip: { ...base().tooltip, formatter: ({ dataIndex }) => {
      const bar = bars[dataIndex];
      return plain(bar.total ? [bar.name, short(bar.difference), `score ${short(found.score)}, the least that got weight ${short(found.lowest)}`]
        : [bar.name, `its own ${short(bar.own)}`, `median of those with weight ${short(bar.others)}`]);
    } },
    series: [{ type: "bar", barMaxWidth: 22, data: bars.map((bar) => ({ value: bar.difference,
      itemStyle: { color: bar.difference < 0 ? c.orange : c.blue, borderRadius: 3, opacity: bar.total ? 1 : 0.75 } })),
      label: { show: true, position: "right", color: c.ink, fontSize: 12, formatter: ({ value }) => (value > 0 ? "+" : "") + short(Number(value.toPrecision(3))) } }],
  };
}
const own = (table) => (table.length ? table[silo] : null);
const SMALL = {
  terms,
  weight: () => one("Weight", own(D.silos.weight), { area: true, top: mostWeight ? Number((1.1 * mostWeight).toPrecision(2)) : undefined }),
  score: () => one("Score", own(D.learned.score), { xs: D.learned.number, limit: D.learned.lowest, limitName: "Least that got weight" }),
  alignment: () => one("Alignment", own(D.learned.alignment), { xs: D.learned.number, band: band("alignment", D.learned.alignment) }),
  approval: () => one("Support", own(D.reviewed.approval), { xs: D.reviewed.number, band: band("approval", D.reviewed.approval) }),
  assent: () => one("Support", own(D.reviewed.assent), { xs: D.reviewed.number, band: band("assent", D.reviewed.assent) }),
  loss: () => one("Loss", own(D.silos.loss), { band: band("loss", D.silos.loss) }),
  norm: () => (D.silos.norm.flat().some((value) => value) ? one("Length", own(D.silos.norm), { limit: R.clip.some((value) => value !== null) ? R.clip : undefined, limitName: "Clip threshold" }) : null),
};

// Who vouches for whom
function review() {
  const found = D.review;
  if (!found) return null;
  const c = C(), n = found.silos.length, place = new Map(rows.map((row, index) => [row.name, index]));
  const shown = found.silos.map((_, index) => index).sort((a, b) => place.get(found.silos[a]) - place.get(found.silos[b]));
  const vouching = new Set(found.vouching), names = shown.map((index) => (vouching.has(found.silos[index]) ? "\u2022 " : "") + found.silos[index]);
  const cells = [];
  let most = 0;
  shown.forEach((i, y) => shown.forEach((j, x) => {
    const value = found.support[i][j];
    if (value === null) return;
    cells.push([x, y, value]);
    most = Math.max(most, Math.abs(value));
  }));
  const narrow = $("review").clientWidth < 520;
  $("review").style.height = `${Math.max(220, Math.min(n * 20, 1000)) + 90}px`;
  const label = { color: c.ink, fontSize: 12, width: narrow ? 64 : 110, overflow: "truncate", interval: n > 45 ? "auto" : 0 };
  return {
    aria: says(`Who vouches for whom among ${n} silos in round ${found.round}`),
    grid: { left: narrow ? 76 : 124, right: 8, top: 8, bottom: narrow ? 76 : 96 },
    xAxis: { type: "category", data: names, axisTick: { show: false }, axisLine: { show: false }, axisLabel: { ...label, rotate: 60, width: 80, hideOverlap: true } },
    yAxis: { type: "category", inverse: true, data: names, axisTick: { show: false }, axisLine: { show: false }, axisLabel: label },
    visualMap: { show: false, min: -most || -1, max: most || 1, inRange: { color: isDark() && !printing ? ["#f0a35e", "#232c36", "#6db3f2"] : ["#c85f06", "#f3f1ee", "#0b5cad"] } },
    tooltip: { ...base().tooltip, formatter: ({ data }) => plain([found.silos[shown[data[1]]],
      `${found.silos[shown[data[0]]]} says: its update ${data[2] < 0 ? "raises" : "lowers"} my loss (${short(data[2])})`]) },
    series: [{ type: "heatmap", data: cells, itemStyle: { borderColor: c.card, borderWidth: n > 60 ? 0 : 1 }, progressive: 0 }],
  };
}

// What it cost, round by round
function spent() {
  if (!numbers.length) return null;
  const c = C(), most = Math.max(...R.exchanges.map((list) => list.length)), inBytes = unit === "bytes";
  const value = (exchange) => (inBytes ? exchange[1] + exchange[2] : exchange[0]);
  const names = ["Exchange 1: the model", "Exchange 2: the trial model"];
  const series = Array.from({ length: most }, (_, k) => ({ name: names[k] || `Exchange ${k + 1}`, type: "bar", stack: "spent", color: [c.blue, c.orange, c.dark][k % 3],
    data: numbers.map((number, x) => [number, R.exchanges[x].length > k ? value(R.exchanges[x][k]) : 0]), barCategoryGap: "20%", barMaxWidth: 26 }));
  if (!series.length) return null;
  series[0].markLine = cursor(round || null);
  return {
    aria: says(`${inBytes ? "Bytes" : "Seconds"} of each exchange in each round`),
    legend: { top: 0, left: 0, type: "scroll", textStyle: { color: c.ink }, itemWidth: 14 }, grid: grid({ top: 36 }),
    xAxis: roundAxis({ min: numbers[0] - 1, max: last + 1 }), yAxis: valueAxis({ axisLabel: { color: c.soft, fontSize: 12, formatter: inBytes ? bytes : undefined } }),
    tooltip: { ...base().tooltip, trigger: "axis", axisPointer: { type: "shadow" }, formatter: (items) => plain([`Round ${items[0].value[0]}`,
      ...items.map((item) => `${item.seriesName}: ${inBytes ? bytes(item.value[1]) : `${short(item.value[1])} s`}`)]) },
    series,
  };
}

// Controls ---------------------------------------------------------------------------------------------------------

const press = (box, name, value) => box && box.querySelectorAll("button").forEach((button) => button.setAttribute("aria-pressed", String(button.dataset[name] === value)));
const draw = (...ids) => {
  ids.forEach((id) => charts[id] && charts[id].draw());
  if (ids.includes("weight-map")) moveLine();
};
const choice = (id, name, change) => $(id) && $(id).addEventListener("click", (event) => {
  const value = event.target.dataset[name];
  if (value === undefined) return;
  press($(id), name, value);
  change(value);
});
choice("axis", "axis", (value) => { axis = value; draw("curve"); });
choice("weight-kind", "kind", (value) => { kind = value; legend(); draw("weight-map"); });
choice("order", "order", (value) => { order = value; draw("weight-map"); });
choice("unit", "unit", (value) => { unit = value; draw("spent"); });

const available = [...new Set(D.measured.flatMap((one) => Object.keys(one.metrics)))];
const first = ["accuracy", "loss", "attack-success", "auc"];
available.sort((a, b) => (first.indexOf(a) + 1 || 9) - (first.indexOf(b) + 1 || 9));
if (available.length) {
  metric = available[0];
  available.forEach((name) => { const option = make("option", metricName(name)); option.value = name; $("metric").append(option); });
  $("metric").addEventListener("change", () => { metric = $("metric").value; draw("curve"); });
} else $("metric").hidden = true;

function facts() {
  const x = at.get(round), said = [];
  $("round-number").textContent = `${round} of ${last}`;
  if (x === undefined) said.push("the first model");
  else {
    said.push(R.skipped[x] ? "skipped: the model stayed" : { learning: "weights are learned", frozen: "weights are frozen", rule: "a rule without learned weights" }[R.phase[x]] || "");
    const i = D.measured[0].round.indexOf(round), accuracy = D.measured[0].metrics.accuracy;
    if (i >= 0 && accuracy && accuracy[i] !== null) said.push(`accuracy ${percent(accuracy[i])}`);
    said.push(`${R.without[x]} excluded`, bytes(R.down[x] + R.up[x]), `${short(R.seconds[x])} s`);
  }
  $("round-facts").textContent = said.filter(Boolean).join(" \u00b7 ");
  $("round").setAttribute("aria-valuetext", `round ${round}`);
}
// To draw a very large map again for every step of the slider takes seconds: there the line is an element above it.
function moveLine() {
  const map = charts["weight-map"];
  if (!map || map.renderer !== "canvas" || !map.drawn) return;
  if (!map.line) {
    map.line = make("div", undefined, "round-line");
    map.element.append(map.line);
    map.drawn.on("datazoom", moveLine);
  }
  const x = map.drawn.convertToPixel({ xAxisIndex: 0 }, kind === "map" ? at.get(round) : round);
  map.line.hidden = !Number.isFinite(x);
  map.line.style.left = `${x}px`;
}
// Only the line that marks the round moves: nothing else of a chart depends on it.
function setRound(value) {
  round = Math.max(Number($("round").min), Math.min(last, value));
  $("round").value = round;
  facts();
  for (const [id, one] of Object.entries(charts)) {
    if (!one.drawn || one.renderer === "canvas" || !["curve", "weight-map", "spent", "weight", "score", "alignment", "approval", "assent", "loss", "norm"].includes(id)) continue;
    const option = one.build(one);
    if (!option) continue;
    one.drawn.setOption({ series: option.series.map((series) => (series.markLine ? { markLine: series.markLine } : {})) });
  }
  moveLine();
}
if (numbers.length) {
  $("rounds").hidden = false;
  $("round").min = D.measured[0].round.includes(0) ? 0 : numbers[0];
  $("round").max = last;
  $("round").addEventListener("input", () => setRound(Number($("round").value)));
  $("round-back").addEventListener("click", () => setRound(round - 1));
  $("round-on").addEventListener("click", () => setRound(round + 1));
}

function pick(index, goThere = false) {
  silo = (index + rows.length) % rows.length;
  const row = rows[silo];
  $("silo").value = silo;
  $("said").textContent = `${row.name}: ${row.short}`;
  $("numbers").textContent = row.why;
  $("changes").replaceChildren(...row.changes.map(([number, text]) => {
    const item = make("li"), button = make("button", `Round ${number}`);
    button.type = "button";
    button.addEventListener("click", () => setRound(number));
    item.append(button, text);
    return item;
  }));
  draw(...Object.keys(SMALL), ...(kind === "lines" ? ["weight-map"] : []));
  if (goThere) {
    history.replaceState(null, "", `#${row.anchor}`);
    $("one").scrollIntoView({ block: "start" });
  }
}
const anchored = () => rows.findIndex((row) => row.anchor === decodeURIComponent(location.hash.slice(1)));
if (rows.length) {
  rows.forEach((row, index) => { const option = make("option", `${row.name}${row.outcome ? ` (${row.outcome})` : ""}`); option.value = index; $("silo").append(option); });
  $("silo").addEventListener("change", () => { pick(Number($("silo").value)); history.replaceState(null, "", `#${rows[silo].anchor}`); });
  $("previous").addEventListener("click", () => pick(silo - 1));
  $("next").addEventListener("click", () => pick(silo + 1));
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a.chip");
    if (!link) return;
    event.preventDefault();
    pick(rows.findIndex((row) => `#${row.anchor}` === link.getAttribute("href")), true);
  });
  addEventListener("hashchange", () => { if (anchored() >= 0) pick(anchored(), true); });
}

// Downloads --------------------------------------------------------------------------------------------------------

function save(name, text, type) {
  const link = make("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = `${D.file}-${name}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}
// A cell that begins as a formula does is quoted: spreadsheets would run it.
const cell = (value) => {
  if (value === null || value === undefined) return "";
  if (typeof value === "number") return String(value);
  const text = /^[=+\-@\t\r]/.test(value) ? `'${value}` : String(value);
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
};
const csv = (lines) => `${lines.map((line) => line.map(cell).join(",")).join("\r\n")}\r\n`;
const TABLES = {
  curve: () => [["run", "round", "bytes", "seconds", ...available], ...D.measured.flatMap((one) => one.round.map((number, i) => [one.label, number, one.bytes[i], one.seconds[i],
    ...available.map((name) => (one.metrics[name] ? one.metrics[name][i] : null))]))],
  "weight-map": () => [["silo", "round", "part", "weight", "loss", "norm"], ...rows.flatMap((row, index) => numbers.map((number, x) => [row.name, number, SAYS[stateOf(index, x)],
    ...["weight", "loss", "norm"].map((name) => (D.silos[name].length ? D.silos[name][index][x] : null))]))],
  silo: () => [["silo", "round", "part", "weight", "loss", "norm", "clip", "alignment", "score", "least score with weight", "approval", "assent"], ...numbers.map((number, x) => {
    const k = learnedAt.get(number), learned = (table) => (k === undefined || !table.length ? null : table[silo][k]);
    return [rows[silo].name, number, SAYS[stateOf(silo, x)], ...["weight", "loss", "norm"].map((name) => (D.silos[name].length ? D.silos[name][silo][x] : null)), R.clip[x],
      learned(D.learned.alignment), learned(D.learned.score), k === undefined ? null : D.learned.lowest[k],
      ...["approval", "assent"].map((name) => (D.reviewed[name].length && D.reviewed.number.includes(number) ? D.reviewed[name][silo][D.reviewed.number.indexOf(number)] : null))];
  })],
  silos: () => [["silo", "outcome", "attack", "final weight", "what happened", "in numbers"], ...rows.map((row) => [row.name, row.outcome, row.attack, row.weight, row.short, row.why])],
  spent: () => [["round", "exchange", "seconds", "bytes to the silos", "bytes from the silos"], ...numbers.flatMap((number, x) => R.exchanges[x].map((one, k) => [number, k + 1, ...one]))],
  review: () => [["silo judged", "reviewer", "support"], ...D.review.silos.flatMap((judged, i) => D.review.silos.map((reviewer, j) => [judged, reviewer, D.review.support[i][j]]))],
};
document.querySelectorAll("[data-csv]").forEach((button) => button.addEventListener("click", () => {
  save(`${button.dataset.csv}.csv`, csv(TABLES[button.dataset.csv]()), "text/csv");
}));
document.querySelectorAll("[data-svg]").forEach((button) => button.addEventListener("click", () => {
  const one = charts[button.dataset.svg], option = one && one.build(one);
  if (!option) return;
  const paper = echarts.init(null, null, { renderer: "svg", ssr: true, width: one.element.clientWidth, height: one.element.clientHeight });
  paper.setOption({ ...base(), backgroundColor: C().card, ...option });
  save(`${button.dataset.svg}.svg`, paper.renderToSVGString(), "image/svg+xml");
  paper.dispose();
}));
$("events-file").addEventListener("click", async () => {
  if ($("events")) save("events.jsonl", await unpacked("events"), "application/x-ndjson");
  else location.href = "events.jsonl";
});
if ($("copy")) $("copy").addEventListener("click", async () => {
  const text = $("command").textContent;
  try { await navigator.clipboard.writeText(text); $("copy").textContent = "Copied"; } catch { getSelection().selectAllChildren($("command")); }
});

// Theme, printing, size --------------------------------------------------------------------------------------------

const remembered = (value) => { try { return value === undefined ? localStorage.getItem("fedlaw-theme") : localStorage.setItem("fedlaw-theme", value); } catch { return null; } };
function theme(name) {
  root.dataset.theme = name;
  $("theme").textContent = name === "dark" ? "Light" : "Dark";
  legend();
  draw(...Object.keys(charts));
}
$("theme").addEventListener("click", () => { theme(isDark() ? "light" : "dark"); remembered(root.dataset.theme); });
$("print").addEventListener("click", () => print());
addEventListener("beforeprint", () => {
  printing = true;
  document.querySelectorAll("details:not(#settings details)").forEach((one) => { one.dataset.was = String(one.open); one.open = true; });
  root.classList.add("printing"); // the widths of paper, for charts to be drawn at
  legend();
  draw(...Object.keys(charts));
});
addEventListener("afterprint", () => {
  printing = false;
  document.querySelectorAll("details:not(#settings details)").forEach((one) => { one.open = one.dataset.was === "true"; });
  root.classList.remove("printing");
  legend();
  draw(...Object.keys(charts));
});
let width = innerWidth, waiting;
addEventListener("resize", () => {
  if (innerWidth === width || printing) return;
  width = innerWidth;
  clearTimeout(waiting);
  waiting = setTimeout(() => draw(...Object.keys(charts)), 120);
});

const wanted = remembered() || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
root.dataset.theme = wanted;
$("theme").textContent = wanted === "dark" ? "Light" : "Dark";
const cells = rows.length * numbers.length;
chart("curve", curve);
chart("weight-map", weightMap, cells > 3000 ? "canvas" : "svg");
Object.entries(SMALL).forEach(([id, build]) => chart(id, build));
chart("review", review);
chart("spent", spent);
legend();
if (rows.length) pick(Math.max(anchored(), 0), anchored() >= 0);
if (numbers.length) facts();
if (numbers.length) { $("round").value = last; }
moveLine();
await Promise.all(Object.values(charts).map((one) => one.done));
root.dataset.ready = "true";
})();
