// How the codes of a collection use their bits, how many items share a code, and whether they drift.

import { call, path } from "./api.js";
import { driftFigure } from "./drift.js";
import { count, h, s } from "./html.js";

const LEVELS = [0.05, 0.1, 0.2, 0.4]; // lower bounds of the colours of the heat map

const percent = (share, digits = 1) => `${(100 * share).toFixed(digits)}\u00a0%`;

export async function show(view, { collection }) {
  const [about, found] = await Promise.all([
    call(path("collections", collection)),
    call(path("collections", collection, "statistics")),
  ]);
  const encoder = about.encoder === null ? null : await call(path("encoders", about.encoder));
  view.append(h("h1", {}, "Codes of ", h("em", {}, collection)), facts(about, encoder));
  if (!found.bits) {
    view.append(h("p", { class: "empty" }, "This collection is empty."));
    return;
  }
  const { bits, buckets, items } = found;
  view.append(h("div", { class: "figures" },
    balance(bits, items), correlation(bits, found), bucketSizes(buckets, items),
    driftFigure(collection, found.drift)));
}

function facts(about, encoder) {
  const fact = (name, value) => h("div", {}, h("dt", {}, name), h("dd", {}, value));
  return h("dl", { class: "facts" },
    fact("Items", about.items.toLocaleString("en")),
    fact("Code", `${count(about.n_bits, "bit")}, ${count(Math.ceil(about.n_bits / 8), "byte")}`),
    encoder === null ? fact("Encoder", "none: items come with codes") : [
      fact("Encoder", about.encoder),
      fact("Method", encoder.method),
      fact("Descriptors", `${count(encoder.dimension, "number")}, ${about.keep_descriptors ? "kept" : "not kept"}`),
    ]);
}

const basis = (examined, items) =>
  h("p", { class: "note" }, examined < items ?
    `From a random sample of ${examined.toLocaleString("en")} of ${count(items, "item")}.` :
    `From all ${count(items, "item")}.`);

function balance(bits, items) {
  const n = bits.ones.length;
  const distances = bits.ones.map((share) => Math.abs(share - 0.5));
  const mean = distances.reduce((sum, distance) => sum + distance, 0) / n;
  const points = (share) => (100 * share).toFixed(1);
  const text = `The share of ones differs from one half by ${points(mean)} percentage points on average, ` +
    `and by at most ${points(Math.max(...distances))}.` +
    (bits.constant ? ` ${count(bits.constant, "bit is", "bits are")} the same in every code, without information.` : "");
  return h("figure", {},
    h("h2", {}, "Balance"),
    h("p", {}, text),
    balanceChart(bits.ones, text),
    h("figcaption", {}, "Share of ones of each bit. One half is best: such a bit splits the collection into halves."),
    basis(bits.looked, items));
}

function balanceChart(ones, text) {
  const n = ones.length;
  const [width, height, left] = [440, 170, 52];
  const x = (at) => left + ((width - left) * at) / n;
  const y = (share) => 8 + (height - 28) * (1 - share);
  const step = (width - left) / n;
  const gap = step > 4 ? 1 : 0;
  const bars = ones
    .map((share, at) => `M${x(at).toFixed(2)} ${y(0)}V${y(share).toFixed(2)}h${(step - gap).toFixed(2)}V${y(0)}z`)
    .join("");
  return s("svg", { class: "chart", viewBox: `0 0 ${width} ${height}`, role: "img",
    "aria-label": `Share of ones of each of ${count(n, "bit")}. ${text}` },
    s("path", { class: "bar", d: bars }),
    [0, 0.5, 1].map((share) => [
      s("path", { class: share === 0.5 ? "half" : "grid", d: `M${left} ${y(share)}H${width}` }),
      s("text", { class: "up", x: left - 6, y: y(share) }, `${100 * share} %`),
    ]),
    s("text", { class: "across start", x: left, y: height - 3 }, "bit 0"),
    s("text", { class: "across end", x: width, y: height - 3 }, `bit ${n - 1}`));
}

function correlation(bits, { items, n_bits: nBits }) {
  const n = bits.heat_map.length;
  const [strongest] = bits.most_correlated;
  const text = nBits === 1 ? "There is only one bit." :
    `Mean |r| is ${bits.mean_correlation.toFixed(3)}. Bits ${strongest.bits.join(" and ")} are the most ` +
    `correlated, with r = ${strongest.correlation.toFixed(2).replace("-", "−")}.`;
  const side = (nBits / n).toFixed(nBits % n ? 1 : 0);
  const cellText = n < nBits ? `, averaged over cells of ${side}\u00a0×\u00a0${side} bits` : "";
  return h("figure", {},
    h("h2", {}, "Correlation"),
    h("p", {}, text),
    heatMap(bits.heat_map, nBits, text),
    scale(),
    h("figcaption", {}, `|r| of each pair of bits${cellText}. Low is best: such bits carry different information.`),
    basis(bits.looked, items));
}

function heatMap(map, nBits, text) {
  const n = map.length;
  const paths = Array(LEVELS.length + 1).fill("");
  map.forEach((row, i) =>
    row.forEach((size, j) => {
      const isDiagonal = i === j && n === nBits; // a bit with itself
      if (!isDiagonal) paths[LEVELS.filter((least) => size >= least).length] += `M${j} ${i}h1v1h-1z`;
    }));
  return s("svg", { class: "heat", viewBox: `0 0 ${n} ${n}`, role: "img", "shape-rendering": "crispEdges",
    "aria-label": `Correlation of each pair of bits. ${text}` },
    paths.map((d, level) => d && s("path", { class: `level${level}`, d })).filter(Boolean));
}

function scale() {
  const names = LEVELS.map((least, at) => `${least} to ${LEVELS[at + 1] ?? 1}`);
  return h("ul", { class: "scale" }, [`below ${LEVELS[0]}`, ...names].map((name, level) =>
    h("li", {}, s("svg", { class: "heat key", viewBox: "0 0 1 1", "aria-hidden": "true" },
      s("path", { class: `level${level}`, d: "M0 0h1v1h-1z" })), name)));
}

function bucketSizes(buckets, items) {
  const most = Math.max(...buckets.sizes.map((group) => group.items));
  const rows = buckets.sizes.filter((group) => group.codes).map((group) => {
    const bar = h("span", { class: "meter", "aria-hidden": "true" });
    bar.style.width = `${(100 * group.items) / most}%`;
    const name = group.least === group.most ? `${group.least}` : `${group.least} to ${group.most}`;
    return h("tr", {}, h("th", { scope: "row" }, name), h("td", {}, group.codes.toLocaleString("en")),
      h("td", {}, group.items.toLocaleString("en")), h("td", { class: "meters" }, bar));
  });
  const alone = buckets.sizes[0].items / buckets.looked;
  return h("figure", {},
    h("h2", {}, "Buckets"),
    h("p", {}, `${count(buckets.looked, "item")} have ${count(buckets.codes, "different code")}. ` +
      `${percent(alone)} of the items have a code of their own. The largest bucket holds ${count(buckets.largest, "item")}.`),
    h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Sizes of buckets" },
      h("table", {},
        h("thead", {}, h("tr", {}, ["items per code", "codes", "items", ""].map((name) => h("th", { scope: "col" }, name)))),
        h("tbody", {}, rows))),
    h("figcaption", {}, "A bucket holds the items that share a code. Hamming distance cannot tell them apart."),
    basis(buckets.looked, items));
}
