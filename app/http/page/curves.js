// The chart of a benchmark: mean average precision by code length, one line per method.

import { h, s } from "./html.js";

const [WIDTH, HEIGHT] = [460, 300];
const [LEFT, RIGHT, TOP, BOTTOM] = [44, 330, 12, 254];
const NAME_HEIGHT = 16;
const COLOURS = 6;
// The look of a method is that of the report (app/benchmark/report/style.py). Marks are SVG paths
// relative to the point that they mark.
const MARKS = [
  "m-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z",
  "m-3.6-3.6h7.2v7.2h-7.2z",
  "m0-5.4l5.4 5.4l-5.4 5.4l-5.4-5.4z",
  "m0-5l5 8.6h-10z",
  "m0 5l5-8.6h-10z",
  "m-1.7-5.1h3.4v3.4h3.4v3.4h-3.4v3.4h-3.4v-3.4h-3.4v-3.4h3.4z",
  "m-5 0l8.6-5v10z",
  "m5 0l-8.6-5v10z",
  "m0-5.6l1.6 3.6l3.9.4l-2.9 2.6l.8 3.9l-3.4-2l-3.4 2l.8-3.9l-2.9-2.6l3.9-.4z",
];
const BASELINE_MARKS = {
  "raw": "m0-2.2l2.6-2.6l2.2 2.2l-2.6 2.6l2.6 2.6l-2.2 2.2l-2.6-2.6l-2.6 2.6l-2.2-2.2l2.6-2.6l-2.6-2.6l2.2-2.2z",
  "raw-cosine": "m-1.8-5.4h3.6v10.8h-3.6z",
  "classifier": "m-5.4-1.8h10.8v3.6h-10.8z",
};

/** Draw the rows of a benchmark; those without a code length are horizontal lines.
 * The place of a method among `names`, all that the service has, decides its look. A row with an
 * `interval` has a bar. */
export function curves(rows, names, [short, long] = ["mAP", "Mean average precision"]) {
  const lengths = [...new Set(rows.map((row) => row.n_bits).filter((n) => n !== null))].sort((a, b) => a - b);
  const x = xScale(lengths);
  const { y, ticks } = yScale(Math.max(...rows.map((row) => 100 * (row.interval?.[1] ?? row.map))));
  const lines = placeNames(methodLines(rows, names, x, y));
  return h("figure", {},
    s("svg", { class: "chart", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img",
      "aria-label": `${long} by code length; the table below has the figures.` },
      ticks.map((tick) => [
        s("path", { class: "grid", d: `M${LEFT} ${y(tick)}H${RIGHT}` }),
        s("text", { class: "up", x: LEFT - 7, y: y(tick) }, `${tick}`),
      ]),
      lengths.map((n) => s("text", { class: "across", x: x(n), y: BOTTOM + 19 }, `${n}`)),
      s("text", { class: "across", x: (LEFT + RIGHT) / 2, y: HEIGHT - 6 }, "code length in bits"),
      lines.map(drawLine)),
    h("figcaption", {}, short === long ? `${long} in %, by code length.` : `${long} (${short}) in %, by code length.`));
}

/** Logarithmic, with a margin on both sides. */
function xScale(lengths) {
  const margin = lengths.length === 1 ? 1.5 : 1;
  const [low, high] = [Math.log2(lengths[0] / margin), Math.log2(lengths.at(-1) * margin)];
  return (n) => LEFT + 14 + ((RIGHT - LEFT - 28) * (Math.log2(n) - low)) / (high - low);
}

/** From 0 to the next tick above the largest value. */
function yScale(largest) {
  const step = [1, 2, 5, 10, 20].find((each) => largest / each <= 6);
  const end = step * Math.max(1, Math.ceil(largest / step));
  return {
    y: (value) => BOTTOM - ((BOTTOM - TOP) * value) / end,
    ticks: Array.from({ length: end / step + 1 }, (_, at) => at * step),
  };
}

function methodLines(rows, names, x, y) {
  const methods = [...new Set(rows.map((row) => row.method))];
  return methods.map((method) => {
    const own = rows.filter((row) => row.method === method).sort((a, b) => a.n_bits - b.n_bits);
    const points = own[0].n_bits === null ? [LEFT, RIGHT].map((px) => [px, y(100 * own[0].map)])
      : own.map((row) => [x(row.n_bits), y(100 * row.map)]);
    const bars = own.map((row) => row.interval && [x(row.n_bits), ...row.interval.map((end) => y(100 * end))]).filter(Boolean);
    return { method, points, bars, ...styleOf(method, names) };
  });
}

function styleOf(method, names) {
  if (method in BASELINE_MARKS) return { css: "raw", mark: BASELINE_MARKS[method] };
  const at = names.includes(method) ? names.indexOf(method) : names.length;
  const again = Math.floor(at / MARKS.length) % 2 ? " again" : "";
  return { css: `c${at % COLOURS}${again}`, mark: MARKS[at % MARKS.length] };
}

/** Put names at the ends of their lines, far enough apart to be read. */
function placeNames(lines) {
  const placed = [...lines].sort((a, b) => a.points.at(-1)[1] - b.points.at(-1)[1]);
  placed.forEach((line, at) => {
    line.name = Math.max(line.points.at(-1)[1], at ? placed[at - 1].name + NAME_HEIGHT : TOP + 4);
  });
  const over = placed.at(-1).name - (BOTTOM + 20);
  if (over > 0) placed.forEach((line, at) => (line.name -= (over * at) / Math.max(1, placed.length - 1)));
  return lines;
}

function drawLine({ css, mark, points, bars, name, method }) {
  const [endX, endY] = points.at(-1);
  return s("g", { class: `line ${css}` },
    s("polyline", { points: points.map((point) => point.map((v) => v.toFixed(1)).join()).join(" ") }),
    bars.map(([px, low, high]) => s("path", { class: "interval", d: `M${px.toFixed(1)} ${low.toFixed(1)}V${high.toFixed(1)}` })),
    points.map(([px, py]) => s("path", { class: "mark", d: `M${px.toFixed(1)} ${py.toFixed(1)}${mark}` })),
    s("path", { class: "lead", d: `M${Math.min(endX + 6, RIGHT)} ${endY}L${RIGHT + 8} ${name}` }),
    s("path", { class: "mark", d: `M${RIGHT + 15} ${name}${mark}` }),
    s("text", { x: RIGHT + 25, y: name }, method));
}
