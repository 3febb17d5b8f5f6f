"use strict";
// Draws the charts of the page from the data in it. Colours are the page's own variables, so that light and dark serve.
const DATA = JSON.parse(document.getElementById("data").textContent);
const COLOURS = {
  "completed": "var(--completed)", "running": "var(--running)", "out of memory": "var(--oom)", "failed": "var(--failed)",
  "cancelled": "var(--cancelled)", "cut off": "var(--blocked)",
};
const SERIES = ["#4e79a7", "#e07b39", "#3a9d6e", "#c85a8e", "#8a6fc0", "#a8873a", "#3fa7b5", "#c04d3f", "#7f8b99", "#6aa84f"];

const numeric = (values) => values.every((value) => value !== "" && Number.isFinite(Number(value)));
const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
const deviation = (values) => {
  if (values.length < 2) return null;
  const middle = mean(values);
  return Math.sqrt(values.reduce((sum, value) => sum + (value - middle) ** 2, 0) / (values.length - 1));
};
const short = (value) => {
  const size = Math.abs(value);
  return value === 0 || (size >= 1e-3 && size < 1e6) ? String(Number(value.toPrecision(4))) : value.toExponential(2);
};
const length = (seconds) => {
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, "0")} min`;
};
const make = (tag, attributes = {}, ...inner) => {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...inner);
  return element;
};
const clock = (time) => d3.utcFormat(time.getUTCHours() + time.getUTCMinutes() + time.getUTCSeconds() === 0 ? "%-d %b" : time.getUTCSeconds() ? "%H:%M:%S" : "%H:%M")(time);
const unique = (values) => [...new Set(values)];
const inOrder = (values) => {
  const found = unique(values);
  return numeric(found) ? found.sort((a, b) => Number(a) - Number(b)) : found;
};

/** Draws one figure, and again when its controls or the width of the page change. */
function chart(name, controls, draw) {
  const figure = document.getElementById(name);
  if (figure === null) return;
  const chosen = {}, plot = figure.querySelector(".plot"), bar = figure.querySelector(".controls");
  for (const [key, control] of Object.entries(controls)) {
    chosen[key] = control.value;
    if (control.options.length < 2) continue;
    const select = make("select", {}, ...control.options.map(([value, text]) => make("option", { value }, text)));
    select.value = control.value;
    select.addEventListener("change", () => { chosen[key] = select.value; redraw(); });
    bar.append(make("label", {}, control.label, select));
    bar.hidden = false;
  }
  let width = 0;
  const redraw = () => {
    width = plot.clientWidth;
    try {
      plot.replaceChildren(...draw(chosen, Math.max(280, width)));
    } catch (error) {  // one chart that cannot be drawn takes nothing else of the page away
      plot.replaceChildren(make("p", { class: "note" }, `This chart could not be drawn: ${error.message}`));
    }
    figure.querySelector(".save").hidden = plot.querySelector("svg") === null;
  };
  redraw();
  new ResizeObserver(() => { if (plot.clientWidth !== width) redraw(); }).observe(plot);
  for (const button of figure.querySelectorAll("[data-save]"))
    button.addEventListener("click", () => save(plot, name, button.dataset.save));
}

/** Saves a chart as a file, with the colours that it has on the page now. */
function save(plot, name, kind) {
  const shown = [...plot.querySelectorAll("svg")].sort((a, b) => b.clientWidth * b.clientHeight - a.clientWidth * a.clientHeight)[0];
  const copy = shown.cloneNode(true), ground = getComputedStyle(document.body).backgroundColor;
  const from = [shown, ...shown.querySelectorAll("*")], to = [copy, ...copy.querySelectorAll("*")];
  from.forEach((element, n) => {
    const style = getComputedStyle(element);
    for (const property of ["fill", "stroke", "color", "font-family", "font-size"]) to[n].style.setProperty(property, style.getPropertyValue(property));
  });
  const box = shown.getBoundingClientRect();
  copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  copy.setAttribute("width", box.width);
  copy.setAttribute("height", box.height);
  copy.style.background = ground;
  const text = new XMLSerializer().serializeToString(copy), file = `${DATA.run}-${name}.${kind}`;
  if (kind === "svg") return offer(new Blob([text], { type: "image/svg+xml" }), file);
  const image = new Image();
  image.onload = () => {
    const canvas = make("canvas", { width: Math.round(box.width * 2), height: Math.round(box.height * 2) });
    const pen = canvas.getContext("2d");
    pen.fillStyle = ground;
    pen.fillRect(0, 0, canvas.width, canvas.height);
    pen.drawImage(image, 0, 0, canvas.width, canvas.height);
    canvas.toBlob((blob) => offer(blob, file), "image/png");
  };
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(text)}`;
}

function offer(blob, file) {
  const link = make("a", { href: URL.createObjectURL(blob), download: file });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

const legend = (entries) => make("ul", { class: "legend" }, ...entries.map(([text, colour]) =>
  make("li", {}, make("i", { style: `background:${colour}`, "aria-hidden": "true" }), text)));
const look = { background: "none", color: "currentColor", fontSize: "12px", fontFamily: "inherit" };
const margins = (names) => Math.min(140, 14 + 7 * Math.max(...names.map((name) => String(name).length)));
const options = (names) => names.map((name) => [name, name]);

// -- attempts over time ---------------------------------------------------------------------------------------------------

chart("timeline", {}, (_, width) => {
  const { lanes, bars, errors } = DATA.timeline, columns = DATA.jobs.columns;
  const top = [];
  lanes.reduce((sum, lane) => (top.push(sum), sum + Math.max(1, lane.rows * 0.6)), 0);
  const high = lanes.map((lane) => Math.max(1, lane.rows * 0.6));
  const when = (seconds) => new Date((DATA.begin + seconds) * 1000);
  const rows = bars.lane.map((lane, n) => {
    const step = (high[lane] - 0.2) / lanes[lane].rows, y1 = top[lane] + 0.1 + bars.row[n] * step;
    return {
      x1: when(bars.start[n]), x2: when(Math.max(bars.end[n], bars.start[n])), y1, y2: y1 + step * 0.92, outcome: DATA.outcomes[bars.outcome[n]],
      title: [columns.id[bars.job[n]] ?? "a job that was removed", `attempt ${bars.n[n]}: ${DATA.outcomes[bars.outcome[n]]}`,
        `${lanes[lane].name}, ${length(bars.end[n] - bars.start[n])}`, errors[bars.error[n]].slice(0, 80)].filter(Boolean).join("\n"),
    };
  });
  const ground = lanes.map((_lane, n) => ({ x1: when(0), x2: new Date(DATA.end * 1000), y1: top[n] + 0.1, y2: top[n] + high[n] - 0.1 }));
  const total = top.at(-1) + high.at(-1), middles = top.map((value, n) => value + high[n] / 2);
  const seen = DATA.outcomes.filter((outcome) => rows.some((row) => row.outcome === outcome));
  const counts = seen.map((outcome) => `${rows.filter((row) => row.outcome === outcome).length} ${outcome}`).join(", ");
  return [legend([...seen.map((outcome) => [outcome, COLOURS[outcome]]), ["idle", "var(--idle)"]]), Plot.plot({
    width, height: 44 + total * (width < 500 ? 24 : 28), marginLeft: margins(lanes.map((lane) => lane.name)), marginRight: 12, marginTop: 6, style: look,
    ariaLabel: `Attempts over time on ${lanes.length} GPUs or slots: ${counts}`,
    x: { type: "utc", label: null, ticks: Math.max(3, Math.floor(width / 110)), tickFormat: clock },
    y: { domain: [0, total], reverse: true, label: null },
    color: { domain: DATA.outcomes, range: DATA.outcomes.map((outcome) => COLOURS[outcome]) },
    marks: [
      Plot.rect(ground, { x1: "x1", x2: "x2", y1: "y1", y2: "y2", fill: "var(--idle)", rx: 2 }),
      Plot.rect(rows, { x1: "x1", x2: "x2", y1: "y1", y2: "y2", fill: "outcome", insetRight: 0.6, rx: 1.5 }),
      Plot.axisY(middles, { tickFormat: (_value, n) => lanes[n].name, tickSize: 0, fontVariant: "tabular-nums" }),
      Plot.tip(rows, Plot.pointer({ x1: "x1", x2: "x2", y1: "y1", y2: "y2", title: "title", fill: "var(--ground)", lineWidth: 30 })),
    ],
  })];
});

// -- results --------------------------------------------------------------------------------------------------------------

const RESULTS = DATA.results;
/** Whether a cell has a value of each of these keys: one without has no place on their axis. */
const placed = (cell, keys) => keys.every((key) => (cell.key[key] ?? "") !== "");
/** The values of a metric over all cells that agree in some keys. */
function pooled(metric, ...keys) {
  const groups = new Map();
  for (const cell of RESULTS.cells) {
    if (!(metric in cell.values) || !placed(cell, keys)) continue;
    const at = keys.map((key) => cell.key[key]), name = JSON.stringify(at);
    if (!groups.has(name)) groups.set(name, { at, values: [] });
    groups.get(name).values.push(...cell.values[metric]);
  }
  return [...groups.values()].map(({ at, values }) => ({ at, n: values.length, mean: mean(values), sd: deviation(values) }));
}
const below = (keys, ...more) => {
  const rest = RESULTS.keys.filter((key) => !keys.includes(key));
  const out = RESULTS.cells.filter((cell) => !placed(cell, keys)).length;
  const lacking = keys.filter((key) => RESULTS.cells.some((cell) => !placed(cell, [key])));
  const parts = [...(rest.length ? [`averaged over ${rest.join(", ")}`] : []), ...more,
    ...(out ? [`not drawn: ${out} ${out === 1 ? "cell" : "cells"} without ${lacking.join(" or ")}, see the table`] : [])];
  return parts.length ? [make("p", { class: "note" }, parts.join("; "))] : [];
};
const count = (key) => unique(RESULTS.cells.map((cell) => cell.key[key] ?? "")).length;
const byCount = [...RESULTS.keys].sort((a, b) => (a === "phase") - (b === "phase") || count(b) - count(a));
const isNumeric = (key) => numeric(RESULTS.cells.map((cell) => cell.key[key] ?? ""));
// What has a goal is what the run was for; then what most cells have.
const weight = (metric) => (metric in RESULTS.goals ? RESULTS.cells.length : 0) + RESULTS.cells.filter((cell) => metric in cell.values).length;
const METRIC = { label: "metric", value: [...RESULTS.metrics].sort((a, b) => weight(b) - weight(a))[0], options: options(RESULTS.metrics) };
const describe = (row) => `${short(row.mean)}${row.sd === null ? "" : ` ± ${short(row.sd)}`} (n = ${row.n})`;

chart("heat", {
  metric: METRIC, x: { label: "across", value: byCount[0], options: options(RESULTS.keys) }, y: { label: "down", value: byCount[1], options: options(RESULTS.keys) },
}, ({ metric, x, y }, width) => {
  if (x === y) return [make("p", { class: "note" }, "Choose two different keys.")];
  const rows = pooled(metric, x, y);
  if (rows.length === 0) return [make("p", { class: "note" }, `No cell has ${metric} for both keys.`)];
  const across = inOrder(rows.map((row) => row.at[0])), down = inOrder(rows.map((row) => row.at[1]));
  const means = rows.map((row) => row.mean), low = Math.min(...means), high = Math.max(...means), middle = (low + high) / 2;
  const left = margins([...down, y]), room = Math.min(140, (width - left) / across.length), text = room > 46;
  const goal = RESULTS.goals[metric], best = rows.filter((row) => goal && row.mean === (goal === "min" ? low : high));
  const place = { x: (row) => row.at[0], y: (row) => row.at[1] };
  return [Plot.plot({
    width: left + across.length * room, height: 66 + down.length * 40, marginLeft: left, marginRight: 0, marginTop: 26, marginBottom: 40, style: look,
    ariaLabel: `Mean of ${metric} over ${x} and ${y}, from ${short(low)} to ${short(high)}; the table below has each value`,
    x: { domain: across, label: x, labelAnchor: "center", tickSize: 0, padding: 0, tickRotate: room < 8 * Math.max(...across.map((one) => one.length)) ? -45 : 0 },
    y: { domain: down, label: y, labelAnchor: "top", tickSize: 0, padding: 0 }, color: { scheme: "viridis", type: "linear" },
    marks: [
      Plot.cell(rows, { ...place, fill: "mean", inset: 1.5, rx: 4 }),
      Plot.cell(best, { ...place, fill: "none", stroke: "var(--ink)", strokeWidth: 2, inset: 0.5, rx: 5 }),
      ...(text ? [Plot.text(rows, { ...place, text: (row) => short(row.mean), fill: (row) => (row.mean > middle ? "#111" : "#fff"), fontVariant: "tabular-nums" })] : []),
      Plot.tip(rows, Plot.pointer({ ...place, title: (row) => `${x} ${row.at[0]}, ${y} ${row.at[1]}\n${describe(row)}`, fill: "var(--ground)" })),
    ],
  }), ...below([x, y], ...(best.length ? [`framed: the best, by the goal ${goal} of ${metric}`] : []))];
});

const over = byCount.find(isNumeric) ?? byCount[0];
chart("curve", {
  metric: METRIC, x: { label: "over", value: over, options: options(RESULTS.keys) },
  by: { label: "a line for each", value: byCount.find((key) => key !== over && count(key) <= SERIES.length) ?? "", options: [["", "none"], ...options(RESULTS.keys)] },
}, ({ metric, x, by }, width) => {
  const keys = by && by !== x ? [x, by] : [x], rows = pooled(metric, ...keys);
  if (rows.length === 0) return [make("p", { class: "note" }, `No cell has ${metric} for these keys.`)];
  const places = inOrder(rows.map((row) => row.at[0])), series = keys.length > 1 ? inOrder(rows.map((row) => row.at[1])) : [];
  const isNumber = numeric(places) && places.length > 1, numbers = places.map(Number);
  const isLog = isNumber && numbers[0] > 0 && numbers.at(-1) / numbers[0] >= 50;
  const wide = (a, b) => ((b - a) / (numbers.at(-1) - numbers[0])) * (width - 72) > 34;
  const apart = isNumber && !isLog && numbers.length < 16 && numbers.every((value, n) => n === 0 || wide(numbers[n - 1], value));
  const at = (row) => (isNumber ? Number(row.at[0]) : row.at[0]), of = (row) => row.at[1] ?? "";
  const colour = (value) => SERIES[Math.max(0, series.indexOf(value)) % SERIES.length];
  const drawn = [...rows].sort((a, b) => places.indexOf(a.at[0]) - places.indexOf(b.at[0]));
  const banded = drawn.filter((row) => row.sd !== null);
  return [...(series.length ? [legend(series.slice(0, 30).map((value) => [`${by} ${value}`, colour(value)]))] : []), Plot.plot({
    width, height: width < 500 ? 260 : 320, marginTop: 28, marginLeft: 56, marginBottom: 42, marginRight: 16, style: look,
    ariaLabel: `${metric} over ${x}: ${drawn.slice(0, 12).map((row) => `${row.at.join(" ")}: ${describe(row)}`).join("; ")}`,
    x: { type: isNumber ? (isLog ? "log" : "linear") : "point", domain: isNumber ? undefined : places, label: x, ticks: apart ? numbers : isNumber ? Math.max(3, Math.floor(width / 90)) : undefined, tickFormat: isNumber ? short : undefined, tickSize: 3 },
    y: { label: metric, grid: true, nice: true, tickFormat: short, tickSize: 0, zero: false },
    marks: [
      Plot.areaY(banded, { x: at, y1: (row) => row.mean - row.sd, y2: (row) => row.mean + row.sd, z: of, fill: (row) => colour(of(row)), fillOpacity: series.length > 2 ? 0.08 : 0.16 }),
      Plot.lineY(drawn, { x: at, y: "mean", z: of, stroke: (row) => colour(of(row)), strokeWidth: 2 }),
      Plot.ruleX(banded, { x: at, y1: (row) => row.mean - row.sd, y2: (row) => row.mean + row.sd, stroke: (row) => colour(of(row)), strokeOpacity: 0.5 }),
      Plot.dot(drawn, { x: at, y: "mean", fill: (row) => colour(of(row)), r: 3.5, stroke: "var(--ground)" }),
      Plot.tip(drawn, Plot.pointer({ x: at, y: "mean", title: (row) => `${x} ${row.at[0]}${of(row) ? `, ${by} ${of(row)}` : ""}\n${describe(row)}`, fill: "var(--ground)" })),
    ],
  }), ...below(keys)];
});

// -- losses ---------------------------------------------------------------------------------------------------------------

const PARAMS = DATA.jobs.params;
const param = (key, job) => (key === "phase" ? DATA.jobs.phases[DATA.jobs.columns.phase[job]] : (PARAMS[key].values[PARAMS[key].of[job]] ?? "-"));
const lossKeys = ["phase", ...Object.keys(PARAMS)].filter((key) => {
  const count = unique(DATA.losses.map((curve) => param(key, curve.job))).length;
  return count > 1 && count <= 24;
});
chart("loss", {
  by: { label: "colour by", value: lossKeys.find((key) => key !== "phase") ?? lossKeys[0] ?? "", options: [["", "none"], ...options(lossKeys)] },
  y: { label: "axis", value: "linear", options: [["linear", "linear"], ["log", "logarithmic"]] },
}, ({ by, y }, width) => {
  const rows = DATA.losses.flatMap((curve) => curve.steps.map((step, n) => ({ step, loss: curve.values[n], job: curve.job })))
    .filter((row) => y !== "log" || row.loss > 0);
  const values = by ? inOrder(DATA.losses.map((curve) => param(by, curve.job))) : [];
  const colour = (row) => SERIES[by ? values.indexOf(param(by, row.job)) % SERIES.length : 0];
  return [...(by ? [legend(values.map((value, n) => [`${by} ${value}`, SERIES[n % SERIES.length]]))] : []), Plot.plot({
    width, height: width < 500 ? 280 : 360, marginTop: 28, marginLeft: 56, marginBottom: 42, marginRight: 16, style: look,
    ariaLabel: `Loss over the steps of ${DATA.losses.length} jobs`,
    x: { label: "step", ticks: Math.max(3, Math.floor(width / 110)), tickFormat: short }, y: { type: y, label: "loss", grid: true, tickFormat: short, tickSize: 0, nice: true },
    marks: [
      Plot.lineY(rows, { x: "step", y: "loss", z: "job", stroke: colour, strokeWidth: 1.3, strokeOpacity: 0.75 }),
      Plot.tip(rows, Plot.pointer({ x: "step", y: "loss", title: (row) => `${DATA.jobs.columns.id[row.job]}\nstep ${row.step}, loss ${short(row.loss)}`, fill: "var(--ground)" })),
    ],
  })];
});
