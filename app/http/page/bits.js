// Draw codes as cells: filled for 1, hollow for 0, crossed if the bit differs from the query.

import { count, h, s } from "./html.js";

const CELL = 10;
const MAX_CELLS = 1024;
const MAX_LISTED = 64; // differing bits that the label of a drawing lists

export function unpack(hex, nBits) {
  const bits = [];
  for (let at = 0; at < nBits; at += 1) {
    bits.push((parseInt(hex[at >> 2], 16) >> (3 - (at & 3))) & 1);
  }
  return bits;
}

export function differing(code, other, nBits) {
  const [a, b] = [unpack(code, nBits), unpack(other, nBits)];
  return a.flatMap((bit, at) => (bit === b[at] ? [] : [at]));
}

const square = (x, y, inset) => {
  const side = CELL - 2 * inset;
  return `M${x + inset} ${y + inset}h${side}v${side}h${-side}z`;
};
const cross = (x, y) => `M${x + 2.6} ${y + 2.6}l4.8 4.8m0-4.8l-4.8 4.8`;

/** Draw a code, and mark the bits that differ from `query` if it is given. */
export function cells(code, nBits, query = null) {
  const differ = query === null ? [] : differing(code, query, nBits);
  const drawn = Math.min(nBits, MAX_CELLS);
  const row = nBits <= 256 ? 32 : 64;
  const width = Math.min(drawn, row) * CELL;
  const height = Math.ceil(drawn / row) * CELL;
  const label = query === null ? `Code of ${count(nBits, "bit")}: ${code}` : differences(differ, nBits);
  const drawing = s(
    "svg",
    { class: "bits", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label },
    Object.entries(paths(unpack(code, drawn), row, new Set(differ)))
      .filter(([, d]) => d)
      .map(([kind, d]) => s("path", { class: kind, d })),
  );
  drawing.style.maxWidth = `${(width * 1.2) / 16}rem`;
  if (drawn === nBits) return drawing;
  return h("div", {}, drawing, h("p", { class: "note" }, `Only the first ${drawn} of ${nBits} bits are drawn.`));
}

function differences(differ, nBits) {
  const listed = differ.slice(0, MAX_LISTED).join(", ") + (differ.length > MAX_LISTED ? " and more" : "");
  return `${differ.length} of ${count(nBits, "bit")} differ${differ.length ? `: ${listed}` : ""}`;
}

/** The SVG paths of all cells, by CSS class. */
function paths(bits, row, differ) {
  const found = { one: "", zero: "", "one other": "", "zero other": "", cross: "", "cross on": "" };
  bits.forEach((bit, at) => {
    const [x, y] = [(at % row) * CELL, Math.floor(at / row) * CELL];
    found[(bit ? "one" : "zero") + (differ.has(at) ? " other" : "")] += square(x, y, bit ? 0.8 : 1.4);
    if (differ.has(at)) found[bit ? "cross on" : "cross"] += cross(x, y);
  });
  return found;
}

export function legend() {
  const sample = (kind, mark) =>
    s(
      "svg",
      { class: "bits key", viewBox: "0 0 10 10", "aria-hidden": "true" },
      s("path", { class: kind, d: square(0, 0, kind.startsWith("one") ? 0.8 : 1.4) }),
      mark && s("path", { class: mark, d: cross(0, 0) }),
    );
  return h(
    "p",
    { class: "note legend" },
    h("span", {}, sample("one"), " one"),
    h("span", {}, sample("zero"), " zero"),
    h("span", {}, sample("one other", "cross on"), sample("zero other", "cross"), " differs from the query"),
  );
}
