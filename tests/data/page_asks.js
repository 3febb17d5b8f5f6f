// Appended to a page in a test: what its scripts have drawn and listed is written into it, to be read back.
const found = {}, texts = (selector) => [...document.querySelectorAll(selector)].map((one) => one.textContent);
const type = (text) => { const query = document.getElementById("query"); query.value = text; query.dispatchEvent(new Event("input")); };
found.charts = Object.fromEntries([...document.querySelectorAll("figure.chart")].map((one) => [one.id, {
  bars: one.querySelectorAll("svg rect").length, lines: one.querySelectorAll('svg [aria-label="line"] path').length,
  label: one.querySelector("svg")?.getAttribute("aria-label"), text: one.textContent,
}]));
found.first = document.querySelectorAll("#table tbody tr").length;
found.printed = (dispatchEvent(new Event("beforeprint")), document.querySelectorAll("#table tbody tr").length);
document.getElementById("every").click();
found.head = texts("#table thead th");
found.rows = [...document.querySelectorAll("#table tbody tr")].map((row) => [...row.cells].map((cell) => cell.title || (cell.querySelector("span") ?? cell).textContent));
type("lam=4.0 n1024 seed=42");
found.search = texts("#table tbody td.id span");
type("");
const sort = (name) => [...document.querySelectorAll("#table thead button")].find((one) => one.textContent === name).click();
sort("val_loss");
found.lowest = texts("#table tbody td.id span")[0];
sort("val_loss");
found.highest = texts("#table tbody td.id span")[0];
document.querySelector("#table .link").click();
found.command = texts("#table tr.command pre");
found.wide = document.documentElement.scrollWidth > document.documentElement.clientWidth;
found.width = innerWidth;
found.ground = getComputedStyle(document.body).backgroundColor;
found.saved = [];
URL.createObjectURL = (blob) => { found.saved.push([blob.type, blob.size]); return `${document.URL}#main`; };
URL.revokeObjectURL = () => {};
for (const button of document.querySelectorAll("[data-save]")) button.click();
const answer = () => document.body.append(Object.assign(document.createElement("pre"), { id: "answers", textContent: JSON.stringify(found) }));
const wait = (left) => setTimeout(() => (left && found.saved.length < 8 ? wait(left - 1) : answer()), 100);
wait(100);
