// Codes as cells: a one is filled, a zero is hollow, one that differs is crossed.

import { count, h, s } from "./html.js";

const CELL = 10;
const MOST = 1024; // cells that are drawn; of longer codes the rest is said in words

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

/** A code; with another one, the bits that differ from it are marked. */
export function cells(code, nBits, other = null) {
  const differ = new Set(other === null ? [] : differing(code, other, nBits));
  const shown = Math.min(nBits, MOST);
  const row = nBits <= 256 ? 32 : 64;
  const paths = { one: "", zero: "", "one other": "", "zero other": "", cross: "", "cross on": "" };
  unpack(code, shown).forEach((bit, at) => {
    const [x, y] = [(at % row) * CELL, Math.floor(at / row) * CELL];
    const other = differ.has(at);
    paths[(bit ? "one" : "zero") + (other ? " other" : "")] += square(x, y, bit ? 0.8 : 1.4);
    if (other) paths[bit ? "cross on" : "cross"] += cross(x, y);
  });
  const width = Math.min(shown, row) * CELL;
  const height = Math.ceil(shown / row) * CELL;
  const list = [...differ];
  const label =
    other === null
      ? `Code of ${count(nBits, "bit")}: ${code}`
      : `${list.length} of ${count(nBits, "bit")} differ` +
        (list.length ? `: ${list.slice(0, 64).join(", ")}${list.length > 64 ? " and more" : ""}` : "");
  const drawing = s(
    "svg",
    { class: "bits", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label },
    Object.entries(paths)
      .filter(([, d]) => d)
      .map(([kind, d]) => s("path", { class: kind, d })),
  );
  drawing.style.maxWidth = `${(width * 1.2) / 16}rem`;
  if (shown === nBits) return drawing;
  return h("div", {}, drawing, h("p", { class: "note" }, `The first ${shown} of ${nBits} bits.`));
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
    h("span", {}, sample("one"), " a one"),
    h("span", {}, sample("zero"), " a zero"),
    h("span", {}, sample("one other", "cross on"), sample("zero other", "cross"), " differs from the query"),
  );
}
