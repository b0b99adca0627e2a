// Benchmarks: start one, follow it, and show its table and curves.

import { call, download, key, path } from "./api.js";
import { curves } from "./curves.js";
import { count, h, problem, say } from "./html.js";
import { recent, watch } from "./jobs.js";

const RAW = "raw";
// What methods are compared with, and what it needs.
const BASELINES = { [RAW]: "no codes", "raw-cosine": "no codes", "classifier": "labels" };
const NEIGHBOURS = "neighbours";
const PROTOCOLS = ["retrieval-59k", "unseen-classes", "unseen-only", "neighbours"];
const DATASET_TYPES = ".npz,.npy,.fvecs,.bvecs,.ivecs,.hdf5,.h5,.parquet";
// Data-free methods are fast. random-net-1 is left out: it gives the same bits as lsh.
const isPreset = (method) => method.data_free && method.method !== "random-net-1";

export async function show(view, { collections, job, signal }) {
  const [datasets, methods, jobs] = await Promise.all([
    call("v1/datasets"),
    call("v1/methods"),
    call("v1/benchmarks"),
  ]);
  const usable = collections.filter((each) => each.keep_descriptors && each.items).map((each) => each.name);
  const request = jobs.find((each) => each.id === job)?.request;
  const result = h("section", { class: "answer", "aria-labelledby": "run-title" });
  view.append(
    h("h1", {}, "Benchmark"),
    h("p", {}, "Compare methods and code lengths. Each method is fitted on one part of the data, and judged by " +
      "the mean average precision (mAP) of its rankings for queries that it has not seen; or, with the protocol " +
      "neighbours, which needs no labels, by the share of the true neighbours that it finds."),
    h("div", { class: "two" }, h("section", { class: "ask", "aria-labelledby": "start-title" },
      form(datasets, usable, methods, request), listed(jobs, job)), result),
  );
  const chosen = job ?? jobs[0]?.id;
  if (chosen === undefined) {
    result.append(h("h2", { id: "run-title" }, "No benchmark yet"),
      h("p", { class: "empty" }, "Start one to see its progress, table and curves here."));
    return;
  }
  watchRun(result, chosen, methods, signal, job !== undefined).catch((error) => {
    if (!signal.aborted) result.replaceChildren(h("h2", { id: "run-title" }, "Benchmark"), problem(error));
  });
}

/** The form that starts a benchmark, filled in like `request` if it is given. */
function form(datasets, collections, methods, request) {
  const source = sourceField(datasets, collections, request);
  const lengths = [...new Set(request?.rows.map(([, bits]) => bits).filter((bits) => bits !== null))];
  const bits = h("input", { id: "bits", value: lengths.join(", ") || "16, 32, 64", required: true,
    pattern: "\\s*\\d+(\\s*,\\s*\\d+)*\\s*", title: "Code lengths, such as 16, 32, 64", autocomplete: "off" });
  const protocol = h("select", { id: "protocol" },
    PROTOCOLS.map((name) => h("option", { selected: name === request?.protocol }, name)));
  const error = h("div");
  const start = async (event) => {
    event.preventDefault();
    const checked = [...event.target.querySelectorAll("input[name=method]:checked")].map((box) => box.value);
    error.replaceChildren();
    try {
      if (!checked.length) throw new Error("Choose at least one method.");
      const accepted = await call("v1/benchmarks", { method: "POST", json: {
        ...JSON.parse(source.value), methods: checked, bits: bits.value.split(",").map(Number), protocol: protocol.value } });
      location.hash = `#/benchmark/${encodeURIComponent(accepted.id)}`;
    } catch (reason) {
      error.replaceChildren(problem(reason));
    }
  };
  return h("form", { class: "stack", onsubmit: start },
    h("h2", { id: "start-title" }, "New benchmark"),
    h("label", { for: "source" }, "Data"), source, uploadField(source),
    h("label", { for: "bits" }, "Code lengths in bits"), bits,
    h("label", { for: "protocol" }, "Protocol"), protocol,
    methodBoxes(methods, request), error, h("button", {}, "Start"));
}

const sourceOption = (kind) => (name) => h("option", { value: JSON.stringify({ [kind]: name }) }, `${kind} ${name}`);
const datasetOption = sourceOption("dataset");

export function sourceField(datasets, collections, request) {
  const select = h("select", { id: "source" }, datasets.map(datasetOption), collections.map(sourceOption("collection")));
  const last = request && JSON.stringify(request.dataset ? { dataset: request.dataset } : { collection: request.collection });
  if ([...select.options].some((each) => each.value === last)) select.value = last;
  return select;
}

/** A field that uploads a dataset file and chooses it in `source`. */
export function uploadField(source) {
  const note = h("div", { class: "note" });
  const upload = async ({ target }) => {
    const [file] = target.files;
    if (!file) return;
    note.replaceChildren(`Uploading ${file.name} …`);
    target.disabled = true;
    try {
      // These two say whether values are floats or integers.
      const name = /\.[fi]vecs$/.test(file.name) ? file.name : file.name.replace(/\.[^.]*$/, "");
      const made = await call(path("datasets", name), { method: "PUT", file, type: "application/octet-stream" });
      source.append(datasetOption(made.dataset));
      source.value = datasetOption(made.dataset).value;
      note.replaceChildren(`${made.dataset}: ${count(made.items, "item")} of dimension ${made.dimension}.`);
      say(`The dataset ${made.dataset} has been uploaded.`);
    } catch (reason) {
      note.replaceChildren(problem(reason));
    }
    target.disabled = false;
    target.value = "";
  };
  return [h("label", { for: "dataset" }, "Upload a dataset file"),
    h("input", { id: "dataset", type: "file", accept: DATASET_TYPES, onchange: upload }), note];
}

function methodBoxes(methods, request) {
  const preset = [RAW, ...methods.filter(isPreset).map((each) => each.method)];
  const checked = request?.rows.map(([method]) => method) ?? preset;
  const box = (name, note) =>
    h("label", { class: "check" },
      h("input", { type: "checkbox", name: "method", value: name, checked: checked.includes(name) }), name,
      note && h("span", { class: "note" }, note));
  return h("fieldset", {}, h("legend", {}, "Methods, and what they need"), h("div", { class: "checks" },
    Object.entries(BASELINES).map(([name, note]) => box(name, note)),
    methods.map((each) => box(each.method, each.needs_torch ? "torch" : each.needs_labels ? "labels" : ""))));
}

function listed(jobs, current) {
  return recent("Recent benchmarks", jobs, current, (job) => ({
    href: `#/benchmark/${encodeURIComponent(job.id)}`,
    text: `${job.request.dataset ?? job.request.collection}, ${count(job.request.rows.length, "row")}`,
  }));
}

function watchRun(section, id, methods, signal, wasChosen) {
  const title = h("h2", { id: "run-title", tabindex: wasChosen ? "-1" : null }, "Benchmark");
  return watch(section, title, id, signal, ["benchmark", "benchmarks"], {
    changed: (job) => {
      title.textContent = `Benchmark on ${job.request.dataset ?? job.request.collection}`;
      say(`The benchmark is ${job.state}.`);
    },
    ended: (job) => section.replaceChildren(title, ...result(job, methods)),
  });
}

function result(job, methods) {
  if (job.state === "cancelled" && !job.result) return [h("p", { class: "empty" }, "This benchmark was cancelled.")];
  if (job.state === "failed") return [h("p", { class: "problem" }, `This benchmark failed: ${job.error}`)];
  const { results, dataset, protocol } = job.result;
  const measured = results.filter((row) => row.error === undefined);
  return [
    h("p", {}, `${count(dataset.items, "item")}${dataset.classes ? ` in ${count(dataset.classes, "class", "classes")}` : ""}. ` +
      `${count(dataset.queries, "query", "queries")} against ${count(dataset.database, "item")}. Protocol ${protocol.name}.`),
    job.result.interrupted ? h("p", { class: "problem" }, job.result.interrupted) : null,
    protocol.name !== NEIGHBOURS && measured.some((row) => row.n_bits !== null) ?
      curves(measured, methods.map((each) => each.method)) : null,
    protocol.name === NEIGHBOURS ? h("p", { class: "note" }, `Recall: the share of the ${protocol.k} true neighbours ` +
      `(${protocol.distance}) that are among the first ${protocol.k}; and that are if the first 100 or 1,000 are ranked again by their descriptors.`) : null,
    protocol.name === NEIGHBOURS ? table(results, "recall", RECALL_COLUMNS) : table(results, "map", COLUMNS),
    h("p", {}, report("benchmarks", job.id), h("span", { class: "note" }, " with further measures, precision and recall, and pictures if the data has any.")),
  ].filter(Boolean);
}

/** A link to the report of a job; with a key, a button that saves it. */
export function report(kind, id) {
  const url = path(kind, id, "report");
  if (!key.get()) return h("a", { href: url }, "Full report");
  // A link cannot send the key.
  const save = async () => {
    const file = URL.createObjectURL(await download(url));
    h("a", { href: file, download: `${kind.replace(/s$/, "")}-${id}.html` }).click();
    URL.revokeObjectURL(file);
  };
  const button = h("button", { class: "plain", onclick: () => save().catch((error) => button.after(problem(error))) },
    "Save the full report");
  return button;
}

const orDash = (value, format) => (value == null ? "–" : format(value));
const TIMES = [
  ["fit s", (row) => orDash(row.fit_seconds, (value) => value.toFixed(2))],
  ["encode s", (row) => orDash(row.encode_seconds, (value) => value.toFixed(2))],
  ["bytes", (row) => orDash(row.bytes_per_item, (value) => value.toLocaleString("en"))],
];
const percent = (value) => orDash(value, (share) => (100 * share).toFixed(1));
// The first is what methods are compared by.
const COLUMNS = [
  ["mAP %", (row) => (100 * row.map).toFixed(2)],
  ["P@100 %", (row) => percent(row.precision_100)],
  ...TIMES,
];
const RECALL_COLUMNS = [
  ["recall %", (row) => (100 * row.recall).toFixed(2)],
  ["of 100 %", (row) => percent(row.recall_rerank_100)],
  ["of 1,000 %", (row) => percent(row.recall_rerank_1000)],
  ...TIMES,
];

function table(rows, figure, columns) {
  const best = new Map(); // the largest figure at each code length
  for (const row of rows) {
    if (row.error === undefined && row.n_bits !== null) best.set(row.n_bits, Math.max(best.get(row.n_bits) ?? 0, row[figure]));
  }
  const cells = (row) => row.error !== undefined ? h("td", { colspan: columns.length, class: "wrong" }, h("div", {}, row.error)) :
    columns.map(([name, format], i) => {
      const isBest = i === 0 && row[figure] === best.get(row.n_bits);
      return h("td", { class: isBest ? "best" : null }, isBest ? `★ ${format(row)}` : format(row));
    });
  const headings = ["method", "bits", ...columns.map(([name]) => name)];
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Results" },
    h("table", {}, h("caption", { class: "note" }, "★ best at its code length"),
      h("thead", {}, h("tr", {}, headings.map((name) => h("th", { scope: "col" }, name)))),
      h("tbody", {}, rows.map((row) => h("tr", {}, h("th", { scope: "row" }, row.method), h("td", {}, row.n_bits ?? "–"), cells(row))))));
}
