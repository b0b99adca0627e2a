// How the codes of a collection use their bits, and how full its buckets are.

import { call, path } from "./api.js";
import { count, h, s } from "./html.js";

const percent = (share, digits = 1) => `${(100 * share).toFixed(digits)} %`;

const points = (share) => `${(100 * share).toFixed(1)} points`;

export async function show(view, { collection }) {
  const [about, found] = await Promise.all([
    call(path("collections", collection)),
    call(path("collections", collection, "statistics")),
  ]);
  const encoder = await call(path("encoders", about.encoder));
  view.append(h("h1", {}, "Codes of ", h("em", {}, collection)), facts(about, encoder));
  if (!found.bits) {
    view.append(h("p", { class: "empty" }, "It is empty: there are no codes to look at yet."));
    return;
  }
  const { bits, buckets } = found;
  view.append(h("div", { class: "figures" }, balance(bits, found.items), correlation(bits, found), fullness(buckets, found.items)));
}

function facts(about, encoder) {
  const fact = (name, value) => h("div", {}, h("dt", {}, name), h("dd", {}, value));
  return h("dl", { class: "facts" },
    fact("Items", about.items.toLocaleString("en")),
    fact("Code", `${about.n_bits} bits, ${Math.ceil(about.n_bits / 8)} bytes`),
    fact("Encoder", about.encoder),
    fact("Method", encoder.method),
    fact("Descriptors", `${encoder.dimension} numbers, ${about.keep_descriptors ? "kept" : "not kept"}`));
}

const restsOn = (looked, items) =>
  h("p", { class: "note" }, looked < items ? `From ${count(looked, "item")} of ${items.toLocaleString("en")}, taken at random.` :
    `From all ${count(items, "item")}.`);

function balance(bits, items) {
  const n = bits.ones.length;
  const [width, height, left] = [440, 170, 46];
  const x = (at) => left + ((width - left) * at) / n;
  const y = (share) => 8 + (height - 28) * (1 - share);
  const wide = (width - left) / n;
  const gap = wide > 4 ? 1 : 0;
  const bars = bits.ones
    .map((share, at) => `M${x(at).toFixed(2)} ${y(0)}V${y(share).toFixed(2)}h${(wide - gap).toFixed(2)}V${y(0)}z`)
    .join("");
  const far = Math.max(...bits.ones.map((share) => Math.abs(share - 0.5)));
  const mean = bits.ones.reduce((sum, share) => sum + Math.abs(share - 0.5), 0) / n;
  const said = `On average the share is ${points(mean)} away from one half, at most ${points(far)}.` +
    (bits.constant ? ` ${count(bits.constant, "bit is", "bits are")} the same in every code and say nothing.` : "");
  return h("figure", {},
    h("h2", {}, "Balance"),
    h("p", {}, said),
    s("svg", { class: "chart", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `Share of ones of each of ${n} bits. ${said}` },
      s("path", { class: "bar", d: bars }),
      [0, 0.5, 1].map((share) => [
        s("path", { class: share === 0.5 ? "half" : "grid", d: `M${left} ${y(share)}H${width}` }),
        s("text", { class: "up", x: left - 6, y: y(share) }, `${100 * share} %`),
      ]),
      s("text", { class: "across start", x: left, y: height - 3 }, "bit 0"),
      s("text", { class: "across end", x: width, y: height - 3 }, `bit ${n - 1}`)),
    h("figcaption", {}, "The share of ones of each bit. Best is one half: such a bit halves the collection."),
    restsOn(bits.looked, items));
}

const LEVELS = [0.05, 0.1, 0.2, 0.4];

function correlation(bits, { items, n_bits: nBits }) {
  const map = bits.heat_map;
  const n = map.length;
  const paths = Array(LEVELS.length + 1).fill("");
  map.forEach((row, i) =>
    row.forEach((size, j) => {
      const level = i === j && n === nBits ? -1 : LEVELS.filter((least) => size >= least).length;
      if (level >= 0) paths[level] += `M${j} ${i}h1v1h-1z`;
    }));
  const [most] = bits.most_correlated;
  const said = nBits === 1 ? "One bit has no other to go with." :
    `On average |r| is ${bits.mean_correlation.toFixed(3)}; bits ${most.bits.join(" and ")} go together most, ` +
    `with r = ${most.correlation.toFixed(2).replace("-", "−")}.`;
  const names = LEVELS.map((least, at) => `${least} to ${LEVELS[at + 1] ?? 1}`);
  return h("figure", {},
    h("h2", {}, "Correlation"),
    h("p", {}, said),
    s("svg", { class: "heat", viewBox: `0 0 ${n} ${n}`, role: "img", "shape-rendering": "crispEdges",
      "aria-label": `Correlation of each bit with each other. ${said}` },
      paths.map((d, level) => d && s("path", { class: `level${level}`, d })).filter(Boolean)),
    h("ul", { class: "scale" }, [`below ${LEVELS[0]}`, ...names].map((name, level) =>
      h("li", {}, s("svg", { class: "heat key", viewBox: "0 0 1 1", "aria-hidden": "true" },
        s("path", { class: `level${level}`, d: "M0 0h1v1h-1z" })), name))),
    h("figcaption", {}, "|r| of bit with bit" + (n < nBits ? `, means over cells of ${(nBits / n).toFixed(nBits % n ? 1 : 0)} x ${(nBits / n).toFixed(nBits % n ? 1 : 0)} bits` : "") +
      ". Best is none: such bits say different things."),
    restsOn(bits.looked, items));
}

function fullness(buckets, items) {
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
    h("p", {}, `${count(buckets.looked, "item")} have ${count(buckets.codes, "code")}. ` +
      `${percent(alone)} of them have one of their own; the fullest bucket holds ${count(buckets.largest, "item")}.`),
    h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Sizes of buckets" },
      h("table", {},
        h("thead", {}, h("tr", {}, ["items a code", "codes", "items", ""].map((name) => h("th", { scope: "col" }, name)))),
        h("tbody", {}, rows))),
    h("figcaption", {}, "A bucket is the items of one code, which no distance tells apart."),
    restsOn(buckets.looked, items));
}
