// Benchmarks: start one, watch it, see its table and curves.

import { call, download, follow, key, path } from "./api.js";
import { count, h, problem, s, say } from "./html.js";

const ENDED = ["done", "failed", "cancelled"];
const RAW = "raw";
// One layer has the bits of lsh.
const isQuick = (one) => one.data_free && one.method !== "random-net-1";
const PROTOCOLS = ["retrieval-59k", "unseen-classes"];

export async function show(view, { collections, job, signal }) {
  const [datasets, methods, jobs] = await Promise.all([
    call("/v1/datasets"),
    call("/v1/methods"),
    call("/v1/benchmarks"),
  ]);
  const kept = collections.filter((one) => one.keep_descriptors && one.items).map((one) => one.name);
  const shown = h("section", { class: "answer", "aria-labelledby": "run-title" });
  view.append(
    h("h1", {}, "Benchmark"),
    h("p", {}, "Which method, and how many bits? Each is fitted on a part, asked with queries it has not seen, and judged by the mean average precision of its ranking."),
    h("div", { class: "two" }, h("section", { class: "ask", "aria-labelledby": "start-title" },
      form(datasets, kept, methods, jobs.find((one) => one.id === job)?.request), earlier(jobs, job)), shown),
  );
  const chosen = job ?? jobs[0]?.id;
  if (chosen === undefined) {
    shown.append(h("h2", { id: "run-title" }, "None yet"), h("p", { class: "empty" }, "Start one: its progress, table and curves stand here."));
    return;
  }
  watch(shown, chosen, signal, job !== undefined).catch((error) => {
    if (!signal.aborted) shown.replaceChildren(h("h2", { id: "run-title" }, "Benchmark"), problem(error));
  });
}

/** What to start; as it was started last, where there is such a request. */
function form(datasets, kept, methods, last) {
  const lengths = [...new Set(last?.rows.map(([, bits]) => bits).filter((bits) => bits !== null))];
  const used = last?.rows.map(([method]) => method) ?? [RAW, ...methods.filter(isQuick).map((one) => one.method)];
  const source = h("select", { id: "source" },
    datasets.map((name) => h("option", { value: JSON.stringify({ dataset: name }) }, `dataset ${name}`)),
    kept.map((name) => h("option", { value: JSON.stringify({ collection: name }) }, `collection ${name}`)));
  const bits = h("input", { id: "bits", value: lengths.join(", ") || "16, 32, 64", required: true, pattern: "\\s*\\d+(\\s*,\\s*\\d+)*\\s*",
    title: "Code lengths, such as 16, 32, 64", autocomplete: "off" });
  const of = last && JSON.stringify(last.dataset ? { dataset: last.dataset } : { collection: last.collection });
  if ([...source.options].some((one) => one.value === of)) source.value = of;
  const protocol = h("select", { id: "protocol" }, PROTOCOLS.map((name) => h("option", { selected: name === last?.protocol }, name)));
  const box = (name, more) =>
    h("label", { class: "check" }, h("input", { type: "checkbox", name: "method", value: name, checked: used.includes(name) }), name,
      more && h("span", { class: "note" }, more));
  const said = h("div");
  const start = async (event) => {
    event.preventDefault();
    const chosen = [...event.target.querySelectorAll("input[name=method]:checked")].map((one) => one.value);
    said.replaceChildren();
    try {
      if (!chosen.length) throw new Error("Choose at least one method.");
      const accepted = await call("/v1/benchmarks", { method: "POST", json: {
        ...JSON.parse(source.value), methods: chosen, bits: bits.value.split(",").map(Number), protocol: protocol.value } });
      location.hash = `#/benchmark/${encodeURIComponent(accepted.id)}`;
    } catch (error) {
      said.replaceChildren(problem(error));
    }
  };
  return h("form", { class: "stack", onsubmit: start },
    h("h2", { id: "start-title" }, "Start one"),
    h("label", { for: "source" }, "Measured on"), source,
    h("label", { for: "bits" }, "Bits"), bits,
    h("label", { for: "protocol" }, "Protocol"), protocol,
    h("fieldset", {}, h("legend", {}, "Methods"), h("div", { class: "checks" },
      box(RAW, "no code"),
      methods.map((one) => box(one.method,
        one.needs_torch ? "torch" : one.needs_labels ? "labels" : "")))),
    said, h("button", {}, "Start"));
}

function earlier(jobs, current) {
  if (!jobs.length) return null;
  const named = (one) => one.request.dataset ?? one.request.collection;
  return h("nav", { "aria-label": "Benchmarks so far" }, h("h3", {}, "So far"), h("ul", { class: "jobs" }, jobs.slice(0, 12).map((one) =>
    h("li", {}, h("a", { href: `#/benchmark/${encodeURIComponent(one.id)}`, "aria-current": one.id === current ? "true" : null },
      `${named(one)}, ${count(one.request.rows.length, "row")}`),
      " ", h("span", { class: "note" }, h("span", { "data-job": one.id }, one.state), `, ${new Date(1000 * one.created).toLocaleString(undefined, { dateStyle: "short", timeStyle: "short" })}`)))));
}

async function watch(shown, id, signal, asked) {
  const title = h("h2", { id: "run-title", tabindex: asked ? "-1" : null }, "Benchmark");
  const state = h("p", { id: "state" });
  const bar = h("progress", { "aria-label": "Progress", max: 1 });
  const cancel = h("button", { class: "plain", onclick: () =>
    call(path("jobs", id), { method: "DELETE" }).catch((error) => state.replaceChildren(problem(error))) }, "Cancel");
  shown.replaceChildren(title, state, bar, cancel);
  let before = null;
  const update = (job) => {
    title.textContent = `On ${job.request.dataset ?? job.request.collection}`;
    const { done = 0, of = 1, now = "", seconds_left: left } = job.progress ?? {};
    bar.max = of;
    job.state === "queued" ? bar.removeAttribute("value") : (bar.value = done);
    state.textContent = job.state === "queued" ? "Waits for its turn." :
      `${done} of ${of} done${now && `; now ${now}`}${left == null ? "" : `; about ${Math.ceil(left)} s left`}.`;
    const listed = document.querySelector(`[data-job="${CSS.escape(job.id)}"]`);
    if (listed) listed.textContent = job.state;
    if (job.state !== before) say(`The benchmark is ${job.state}.`);
    before = job.state;
    return ENDED.includes(job.state);
  };
  for await (const job of follow(id, signal)) {
    if (update(job)) {
      shown.replaceChildren(title, ...result(job));
      return;
    }
  }
  throw new Error("The service has stopped; the benchmark goes on when it is back. Load this page anew.");
}

function result(job) {
  if (job.state === "cancelled") return [h("p", { class: "empty" }, "It was cancelled.")];
  if (job.state === "failed") return [h("p", { class: "problem" }, `It failed: ${job.error}`)];
  const { results, dataset, protocol } = job.result;
  const measured = results.filter((row) => row.error === undefined);
  return [
    h("p", {}, `${count(dataset.items, "item")} in ${count(dataset.classes, "class", "classes")}; ${count(dataset.queries, "query", "queries")} ` +
      `against ${dataset.database.toLocaleString("en")}. Protocol ${protocol.name}.`),
    measured.some((row) => row.n_bits !== null) ? curves(measured) : null,
    table(results),
    h("p", {}, report(job.id), h("span", { class: "note" }, " has further figures, precision against recall, and pictures where there are any.")),
  ].filter(Boolean);
}

function report(id) {
  const url = path("benchmarks", id, "report");
  if (!key.get()) return h("a", { href: url }, "The whole report");
  // A link carries no key.
  const save = async () => {
    const file = URL.createObjectURL(await download(url));
    h("a", { href: file, download: `benchmark-${id}.html` }).click();
    URL.revokeObjectURL(file);
  };
  const button = h("button", { class: "plain", onclick: () => save().catch((error) => button.after(problem(error))) },
    "Save the whole report");
  return button;
}

const COLUMNS = [
  ["mAP %", (row) => (100 * row.map).toFixed(2)],
  ["P@100 %", (row) => (row.precision_100 == null ? "–" : (100 * row.precision_100).toFixed(1))],
  ["fit s", (row) => (row.fit_seconds == null ? "–" : row.fit_seconds.toFixed(2))],
  ["encode s", (row) => (row.encode_seconds == null ? "–" : row.encode_seconds.toFixed(2))],
  ["bytes", (row) => row.bytes_per_item?.toLocaleString("en") ?? "–"],
];

function table(rows) {
  const best = new Map();
  for (const row of rows) if (row.error === undefined && row.n_bits !== null) best.set(row.n_bits, Math.max(best.get(row.n_bits) ?? 0, row.map));
  const cells = (row) => row.error !== undefined ? h("td", { colspan: COLUMNS.length, class: "wrong" }, row.error) :
    COLUMNS.map(([name, format]) => {
      const wins = name === "mAP %" && row.map === best.get(row.n_bits);
      return h("td", { class: wins ? "best" : null }, wins ? `★ ${format(row)}` : format(row));
    });
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Figures" },
    h("table", {}, h("caption", { class: "note" }, "★ best at its code length"),
      h("thead", {}, h("tr", {}, ["method", "bits", ...COLUMNS.map(([name]) => name)].map((name) => h("th", { scope: "col" }, name)))),
      h("tbody", {}, rows.map((row) => h("tr", {}, h("th", { scope: "row" }, row.method), h("td", {}, row.n_bits ?? "–"), cells(row))))));
}

// Around the point where a mark stands.
const MARKS = ["m-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z", "m-3.6-3.6h7.2v7.2h-7.2z", "m0-5.4l5.4 5.4l-5.4 5.4l-5.4-5.4z",
  "m0-5l5 8.6h-10z", "m0 5l5-8.6h-10z", "m-1.7-5.1h3.4v3.4h3.4v3.4h-3.4v3.4h-3.4v-3.4h-3.4v-3.4h3.4z"];

function curves(rows) {
  const [width, height, left, right, top, bottom] = [460, 300, 44, 330, 12, 254];
  const methods = [...new Set(rows.map((row) => row.method))];
  const lengths = [...new Set(rows.map((row) => row.n_bits).filter((n) => n !== null))].sort((a, b) => a - b);
  const pad = lengths.length === 1 ? 1.5 : 1;
  const [low, high] = [Math.log2(lengths[0] / pad), Math.log2(lengths.at(-1) * pad)];
  const x = (n) => left + 14 + ((right - left - 28) * (Math.log2(n) - low)) / (high - low);
  const most = Math.max(...rows.map((row) => 100 * row.map));
  const step = [1, 2, 5, 10, 20].find((one) => most / one <= 6);
  const end = step * Math.ceil(most / step);
  const y = (value) => bottom - ((bottom - top) * value) / end;
  const ticks = Array.from({ length: end / step + 1 }, (_, at) => at * step);
  const lines = methods.map((method, at) => {
    const own = rows.filter((row) => row.method === method).sort((a, b) => a.n_bits - b.n_bits);
    const raw = own[0].n_bits === null;
    const points = raw ? [left, right].map((px) => [px, y(100 * own[0].map)]) : own.map((row) => [x(row.n_bits), y(100 * row.map)]);
    return { method, raw, points, css: raw ? "raw" : `c${at % 6}${at >= 6 ? " again" : ""}`, mark: raw ? "" : MARKS[(at + Math.floor(at / 6)) % 6] };
  });
  // Names at the ends of their lines, pushed apart.
  const placed = [...lines].sort((a, b) => a.points.at(-1)[1] - b.points.at(-1)[1]);
  placed.forEach((line, at) => (line.name = Math.max(line.points.at(-1)[1], at ? placed[at - 1].name + 16 : top + 4)));
  const over = placed.at(-1).name - (bottom + 20);
  if (over > 0) placed.forEach((line, at) => (line.name -= (over * at) / Math.max(1, placed.length - 1)));
  return h("figure", {},
    s("svg", { class: "chart", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": "Mean average precision by code length; the table below has the figures." },
      ticks.map((tick) => [s("path", { class: "grid", d: `M${left} ${y(tick)}H${right}` }), s("text", { class: "up", x: left - 7, y: y(tick) }, `${tick}`)]),
      lengths.map((n) => s("text", { class: "across", x: x(n), y: bottom + 19 }, `${n}`)),
      s("text", { class: "across", x: (left + right) / 2, y: height - 6 }, "code length, bits"),
      lines.map(({ css, mark, points, name, method }) => s("g", { class: `line ${css}` },
        s("polyline", { points: points.map((p) => p.map((v) => v.toFixed(1)).join()).join(" ") }),
        mark && points.map(([px, py]) => s("path", { class: "mark", d: `M${px.toFixed(1)} ${py.toFixed(1)}${mark}` })),
        s("path", { class: "lead", d: `M${Math.min(points.at(-1)[0] + 6, right)} ${points.at(-1)[1]}L${right + 8} ${name}` }),
        mark && s("path", { class: "mark", d: `M${right + 15} ${name}${mark}` }),
        s("text", { x: right + 25, y: name }, method)))),
    h("figcaption", {}, "Mean average precision in %, by code length."));
}
