// In a page with a campaign's page in each frame: what the frames show is written into it, to be read back.
const numbers = (text) => (text.match(/-?\d[\d.e+-]*/g) ?? []).map(Number);
const inside = (one, of) => one.left >= of.left && one.right <= of.right && one.top >= of.top && one.bottom <= of.bottom;
const asks = (frame) => {
  const seen = frame.contentDocument, all = (selector, of = seen) => [...of.querySelectorAll(selector)];
  const rows = all("#nodes tbody tr"), [best] = all("header dd");
  // The titles of a picture: "n007 x = 7: better score 0.375 ± 0.29".
  const titles = (svg) => Object.fromEntries(all("title", svg).map((one) => [one.textContent.split(" ")[0], numbers(one.textContent.split(" score ")[1] ?? "")]));
  const cut = (svg) => {
    const boxes = all("rect[rx]", svg).map((one) => one.getBoundingClientRect());
    return all("text", svg).filter((one) => {
      const words = one.getBoundingClientRect();
      return !inside(words, boxes.find((of) => words.left >= of.left && words.left < of.right && words.top >= of.top && words.top < of.bottom) ?? svg.getBoundingClientRect());
    }).map((one) => one.textContent);
  };
  const [progress, tree] = all(".picture svg");
  return {
    width: frame.contentWindow.innerWidth, needs: seen.documentElement.scrollWidth,
    ground: frame.contentWindow.getComputedStyle(seen.body).backgroundColor,
    what: rows[0].cells[7].getBoundingClientRect().width,
    best: [best.innerText.split(" ")[0], ...numbers(best.innerText.split(" ").slice(1).join(" "))],
    nodes: Object.fromEntries(rows.map((row) => [row.id, numbers(row.cells[3].innerText)])),
    progress: titles(progress), tree: titles(tree), cut: [...cut(progress), ...cut(tree)],
  };
};
addEventListener("load", () => document.body.append(Object.assign(document.createElement("pre"), {
  id: "answers", textContent: JSON.stringify([...document.querySelectorAll("iframe")].map(asks)),
})));
