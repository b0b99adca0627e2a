// The chart of a benchmark: mean average precision by code length, one line per method.

import { h, s } from "./html.js";

const [WIDTH, HEIGHT] = [460, 300];
const [LEFT, RIGHT, TOP, BOTTOM] = [44, 330, 12, 254];
const NAME_HEIGHT = 16;
const COLOURS = 6;
// SVG paths relative to the point that they mark.
const MARKS = ["m-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z", "m-3.6-3.6h7.2v7.2h-7.2z", "m0-5.4l5.4 5.4l-5.4 5.4l-5.4-5.4z",
  "m0-5l5 8.6h-10z", "m0 5l5-8.6h-10z", "m-1.7-5.1h3.4v3.4h3.4v3.4h-3.4v3.4h-3.4v-3.4h-3.4v-3.4h3.4z"];

/** Draw the rows of a benchmark; those without a code length are horizontal lines. */
export function curves(rows) {
  const lengths = [...new Set(rows.map((row) => row.n_bits).filter((n) => n !== null))].sort((a, b) => a - b);
  const x = xScale(lengths);
  const { y, ticks } = yScale(Math.max(...rows.map((row) => 100 * row.map)));
  const lines = placeNames(methodLines(rows, x, y));
  return h("figure", {},
    s("svg", { class: "chart", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img",
      "aria-label": "Mean average precision by code length; the table below has the figures." },
      ticks.map((tick) => [
        s("path", { class: "grid", d: `M${LEFT} ${y(tick)}H${RIGHT}` }),
        s("text", { class: "up", x: LEFT - 7, y: y(tick) }, `${tick}`),
      ]),
      lengths.map((n) => s("text", { class: "across", x: x(n), y: BOTTOM + 19 }, `${n}`)),
      s("text", { class: "across", x: (LEFT + RIGHT) / 2, y: HEIGHT - 6 }, "code length in bits"),
      lines.map(drawLine)),
    h("figcaption", {}, "Mean average precision (mAP) in %, by code length."));
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

function methodLines(rows, x, y) {
  const methods = [...new Set(rows.map((row) => row.method))];
  return methods.map((method, at) => {
    const own = rows.filter((row) => row.method === method).sort((a, b) => a.n_bits - b.n_bits);
    if (own[0].n_bits === null) {
      return { method, css: "raw", mark: "", points: [LEFT, RIGHT].map((px) => [px, y(100 * own[0].map)]) };
    }
    const points = own.map((row) => [x(row.n_bits), y(100 * row.map)]);
    // After six methods the colours come again, with dashes and other marks.
    const css = `c${at % COLOURS}${at >= COLOURS ? " again" : ""}`;
    return { method, css, mark: MARKS[(at + Math.floor(at / COLOURS)) % MARKS.length], points };
  });
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

function drawLine({ css, mark, points, name, method }) {
  const [endX, endY] = points.at(-1);
  return s("g", { class: `line ${css}` },
    s("polyline", { points: points.map((point) => point.map((v) => v.toFixed(1)).join()).join(" ") }),
    mark && points.map(([px, py]) => s("path", { class: "mark", d: `M${px.toFixed(1)} ${py.toFixed(1)}${mark}` })),
    s("path", { class: "lead", d: `M${Math.min(endX + 6, RIGHT)} ${endY}L${RIGHT + 8} ${name}` }),
    mark && s("path", { class: "mark", d: `M${RIGHT + 15} ${name}${mark}` }),
    s("text", { x: RIGHT + 25, y: name }, method));
}
