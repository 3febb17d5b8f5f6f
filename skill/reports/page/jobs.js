"use strict";
// The table of all jobs: search, choice by status, sorting, and the command of each. Only rows that are shown are made.
{
  const { columns, phases, statuses, places, reasons, befores, codes, metrics, params } = DATA.jobs;
  const table = document.getElementById("table"), body = table.tBodies[0], form = document.getElementById("find");
  const query = document.getElementById("query"), only = document.getElementById("only"), found = document.getElementById("found");
  const STEP = 100, PRINTED = 1000; // rows that are shown at first; those of a page that is printed
  const several = phases.length > 1;
  const moment = (seconds) => (seconds === null ? "-" : new Date(seconds * 1000).toISOString().slice(5, 19).replace("T", " "));
  const shownKeys = Object.keys(params).filter((key) => params[key].values.length > 1 || params[key].of.includes(-1));
  // Each column: its name, what it sorts by, its text, its class.
  const shown = [
    ["Job", (n) => columns.id[n], undefined, "id"],
    ...(several ? [["Phase", (n) => phases[columns.phase[n]]]] : []),
    ["Status", (n) => statuses[columns.status[n]], undefined, "state"],
    ...shownKeys.map((key) => [key, (n) => params[key].values[params[key].of[n]] ?? ""]),
    ...Object.keys(metrics).map((name) => [name, (n) => metrics[name][n], (value) => (value === null ? "-" : String(Number(value.toPrecision(6)))), "n"]),
    ["Where", (n) => places[columns.place[n]]],
    ["Attempts", (n) => columns.attempts[n], undefined, "n"],
    ["Started (UTC)", (n) => columns.start[n], moment],
    ["Duration", (n) => columns.seconds[n], (value) => (value === null ? "-" : length(value)), "n"],
    ["Why", (n) => reasons[columns.why[n]], undefined, "why"],
  ];
  const texts = columns.id.map((id, n) => [id, phases[columns.phase[n]], statuses[columns.status[n]], places[columns.place[n]], reasons[columns.why[n]],
    columns.cmd[n], ...Object.keys(params).map((key) => `${key}=${params[key].values[params[key].of[n]] ?? ""}`)].join("\n").toLowerCase());
  let order = columns.id.map((_, n) => n), rows = order, limit = STEP, sorted = -1, falling = false;

  const head = make("tr", {}, ...shown.map(([name, , , kind], n) => {
    const button = make("button", { type: "button" }, name);
    button.addEventListener("click", () => sort(n));
    return make("th", { scope: "col", class: kind === "n" ? "n" : "" }, button);
  }));
  table.tHead.append(head);

  function compare(a, b) {
    if (a === b) return 0;
    if (a === null || a === undefined || a === "") return 1;  // what has no value comes last, whichever way
    if (b === null || b === undefined || b === "") return -1;
    const order = numeric([a, b]) ? Number(a) - Number(b) : String(a).localeCompare(String(b), "en", { numeric: true });
    return falling ? -order : order;
  }
  function sort(n) {
    falling = sorted === n && !falling;
    sorted = n;
    const of = shown[n][1];
    order = columns.id.map((_, job) => job).sort((a, b) => compare(of(a), of(b)) || a - b);
    [...head.cells].forEach((cell, at) => (at === n ? cell.setAttribute("aria-sort", falling ? "descending" : "ascending") : cell.removeAttribute("aria-sort")));
    choose();
  }
  function choose() {
    const words = query.value.toLowerCase().split(/\s+/).filter(Boolean);
    rows = order.filter((n) => (only.value === "" || statuses[columns.status[n]] === only.value) && words.every((word) => texts[n].includes(word)));
    limit = STEP;
    show();
  }
  function show() {
    body.replaceChildren(...rows.slice(0, limit).map(row));
    found.textContent = rows.length === columns.id.length ? `${rows.length} jobs` : `${rows.length} of ${columns.id.length} jobs`;
    document.querySelector(".more").hidden = rows.length <= limit;
    document.getElementById("more").textContent = `Show ${Math.min(STEP, rows.length - limit)} more`;
    document.getElementById("every").textContent = `Show all ${rows.length}`;
  }
  function row(n) {
    const button = make("button", { type: "button", class: "link", "aria-expanded": "false", "aria-label": `command of ${columns.id[n]}` }, "command");
    const cells = shown.map(([name, of, text, kind]) => {
      const value = of(n), written = text ? text(value) : String(value ?? "");
      const inner = kind === "state" ? [make("span", { class: `status s-${written}` }, written)] : kind === "id" ? [make("span", {}, written), " ", button] : [written];
      const whole = typeof value === "number" && name in metrics ? { title: String(value) } : {};
      return make("td", { class: `${kind ?? ""}${written === "" || written === "-" ? " empty" : ""}`, "data-name": name, ...whole }, ...inner);
    });
    const made = make("tr", {}, ...cells);
    button.addEventListener("click", () => {
      const open = button.getAttribute("aria-expanded") === "true";
      button.setAttribute("aria-expanded", String(!open));
      if (open) return made.nextSibling.remove();
      const code = codes[columns.code[n]] ? `# code: ${codes[columns.code[n]]}\n` : "";
      const text = `${code}${befores[columns.before[n]]}\n${columns.cmd[n]}`;
      made.after(make("tr", { class: "command" }, make("td", { colspan: shown.length }, make("pre", {}, text))));
    });
    return made;
  }

  for (const status of statuses) only.append(make("option", { value: status }, status));
  query.addEventListener("input", choose);
  only.addEventListener("change", choose);
  form.addEventListener("submit", (event) => event.preventDefault());
  document.getElementById("more").addEventListener("click", () => { limit += STEP; show(); });
  document.getElementById("every").addEventListener("click", () => { limit = rows.length; show(); });
  addEventListener("beforeprint", () => { limit = Math.max(limit, Math.min(rows.length, PRINTED)); show(); });
  table.hidden = form.hidden = false;
  choose();
}
