// Recommendations: start one, follow it, show its answer, and make what it recommends.

import { call, path } from "./api.js";
import { report, sourceField, uploadField } from "./benchmark.js";
import { curves } from "./curves.js";
import { count, h, problem, say } from "./html.js";
import { recent, watch } from "./jobs.js";

// The field of the request, its name, what its value is, and the value at first.
const GOALS = {
  within: ["mAP near the descriptors'", "Points of mAP below the descriptors, at most (needs labels)", 2],
  recall: ["Recall of true neighbours", "Share of the true neighbours to find", 0.95],
  bytes: ["Best code of a size", "Bytes per item, at most", 8],
};

export async function show(view, { collections, job, signal }) {
  const [datasets, methods, jobs] = await Promise.all([
    call("v1/datasets"),
    call("v1/methods"),
    call("v1/recommendations"),
  ]);
  const usable = collections.filter((each) => each.keep_descriptors && each.items).map((each) => each.name);
  const request = jobs.find((each) => each.id === job)?.request;
  const result = h("section", { class: "answer", "aria-labelledby": "run-title" });
  view.append(
    h("h1", {}, "Recommend"),
    h("p", {}, "Find out which method and how many bits your data need. Candidates are compared on queries that no " +
      "method has seen, and the best one is confirmed on further queries."),
    h("div", { class: "two" }, h("section", { class: "ask", "aria-labelledby": "start-title" },
      form(datasets, usable, request), listed(jobs, job)), result),
  );
  const chosen = job ?? jobs[0]?.id;
  if (chosen === undefined) {
    result.append(h("h2", { id: "run-title" }, "No recommendation yet"),
      h("p", { class: "empty" }, "Start one to see its progress and its answer here."));
    return;
  }
  watchRun(result, chosen, methods, signal, job !== undefined).catch((error) => {
    if (!signal.aborted) result.replaceChildren(h("h2", { id: "run-title" }, "Recommendation"), problem(error));
  });
}

const goalOf = (request) => Object.keys(GOALS).find((name) => request?.goal[name] !== undefined) ?? "within";

/** The form that starts a recommendation, filled in like `request` if it is given. */
function form(datasets, collections, request) {
  const source = sourceField(datasets, collections, request);
  const first = goalOf(request);
  const goal = h("select", { id: "goal", onchange: () => change() },
    Object.entries(GOALS).map(([name, [text]]) => h("option", { value: name, selected: name === first }, text)));
  const number = (id, value, more) => h("input", { id, type: "number", value, required: true, ...more });
  const value = number("value", request?.goal[first] ?? GOALS[first][2], { step: "any", min: 0 });
  const label = h("label", { for: "value" }, GOALS[first][1]);
  const k = number("k", request?.goal.k ?? 10, { min: 1 });
  const rerank = number("rerank", request?.goal.rerank ?? 200, { min: 0 });
  const recall = h("div", { class: "stack" }, h("label", { for: "k" }, "Neighbours to find (without labels)"), k,
    h("label", { for: "rerank" }, "Items that are ranked again by their descriptors, 0 for none"), rerank);
  // A hidden field that is required would keep the form from being sent, without a word.
  const hide = () => { recall.hidden = k.disabled = rerank.disabled = goal.value === "within"; };
  hide();
  const change = () => {
    [, label.textContent, value.value] = GOALS[goal.value];
    hide();
  };
  const error = h("div");
  const start = async (event) => {
    event.preventDefault();
    error.replaceChildren();
    const numbers = goal.value === "within" ? {} : { k: Number(k.value), rerank: Number(rerank.value) };
    try {
      const accepted = await call("v1/recommendations", { method: "POST", json: {
        ...JSON.parse(source.value), [goal.value]: Number(value.value), ...numbers } });
      location.hash = `#/recommend/${encodeURIComponent(accepted.id)}`;
    } catch (reason) {
      error.replaceChildren(problem(reason));
    }
  };
  return h("form", { class: "stack", onsubmit: start },
    h("h2", { id: "start-title" }, "New recommendation"),
    h("label", { for: "source" }, "Data"), source, uploadField(source),
    h("label", { for: "goal" }, "Goal"), goal,
    label, value, recall, error, h("button", {}, "Start"));
}

function listed(jobs, current) {
  return recent("Recent recommendations", jobs, current, (job) => ({
    href: `#/recommend/${encodeURIComponent(job.id)}`,
    text: `${job.request.dataset ?? job.request.collection}, ${goalOf(job.request)} ${job.request.goal[goalOf(job.request)]}`,
  }));
}

function watchRun(section, id, methods, signal, wasChosen) {
  const title = h("h2", { id: "run-title", tabindex: wasChosen ? "-1" : null }, "Recommendation");
  return watch(section, title, id, signal, ["recommendation", "recommendations"], {
    changed: (job) => {
      title.textContent = `Recommendation for ${job.request.dataset ?? job.request.collection}`;
      say(`The recommendation is ${job.state}.`);
    },
    ended: (job) => section.replaceChildren(title, ...answer(job, methods)),
  });
}

function answer(job, methods) {
  if (job.state === "cancelled") return [h("p", { class: "empty" }, "This recommendation was cancelled.")];
  if (job.state === "failed") return [h("p", { class: "problem" }, `This recommendation failed: ${job.error}`)];
  const { answer: sentence, notes, reached, runner_up: second, candidates, measure, goal, dataset } = job.result;
  const measured = candidates.filter((row) => row.error === undefined).map((row) => ({ ...row, map: row.value }));
  const what = measure === "map" ? ["mAP", "Mean average precision"] : ["Recall", "Recall"];
  return [
    h("p", { class: reached ? "headline" : "headline problem" }, sentence.split("`").map((part, i) => (i % 2 ? h("code", {}, part) : part))),
    reached ? make(job) : null,
    notes.map((note) => h("p", {}, note)),
    second ? h("p", {}, h("b", {}, "Runner-up: "), second.why) : null,
    h("p", { class: "note" }, `The goal: ${goal.in_words}. Methods learn from ${count(dataset.training, "item")}; ` +
      `${count(dataset.choosing, "query", "queries")} search ${count(dataset.database, "item")}.`),
    curves(measured, methods.map((each) => each.method), what),
    table(measured, what[0], goal.within !== undefined),
    candidates.filter((row) => row.error !== undefined).map((row) =>
      h("p", { class: "note" }, `${row.method}, ${row.n_bits} bits: ${row.error}`)),
    h("p", {}, report("recommendations", job.id), h("span", { class: "note" }, " as a page of its own.")),
  ].flat().filter(Boolean);
}

/** The form that makes the encoder and the collection. */
function make(job) {
  const name = h("input", { id: "make", required: true, autocomplete: "off", value: `${job.request.dataset ?? job.request.collection}-small` });
  const note = h("div");
  const submit = async (event) => {
    event.preventDefault();
    try {
      const made = await call(path("recommendations", job.id, "make"), { method: "POST", json: { name: name.value } });
      const { rerank, rerank_by: by } = job.result.recommended.query;
      note.replaceChildren(h("p", {}, "Made the encoder and the empty collection ", h("code", {}, made.name), ". Fill it with ",
        h("code", {}, `bitcell load ${made.name} …`), rerank ? `, and query it with rerank ${rerank} by ${by}.` : "."));
      say(`The collection ${made.name} has been made.`);
    } catch (reason) {
      note.replaceChildren(problem(reason));
    }
  };
  return h("form", { class: "row", onsubmit: submit },
    h("label", { for: "make" }, "Make its encoder and collection as"), name, h("button", {}, "Make"), note);
}

const percent = (share) => (100 * share).toFixed(1);
const ends = ([low, high], sign = "") => `${sign && low >= 0 ? "+" : ""}${percent(low)} to ${sign && high >= 0 ? "+" : ""}${percent(high)}`;
const VERDICTS = { reaches: "reaches it", fails: "misses it", open: "in doubt", best: "best", worse: "" };

function table(rows, name, toRaw) {
  const headings = ["method", "bits", "bytes", `${name} %`, "interval", ...(toRaw ? ["to raw"] : []), "queries", "fit s", "goal"];
  const cells = (row, i) => [row.n_bits, row.bytes_per_item, percent(row.value), ends(row.interval),
    ...(toRaw ? [ends(row.gain_interval, "+")] : []), row.queries.toLocaleString("en"), row.fit_seconds.toFixed(2),
    VERDICTS[row.verdict]].map((text) => h("td", { class: i === 0 ? "best" : null }, `${text}`));
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Candidates" },
    h("table", {}, h("caption", { class: "note" }, "Intervals hold for all candidates together; those that were soon out of the question were measured with few queries."),
      h("thead", {}, h("tr", {}, headings.map((text) => h("th", { scope: "col" }, text)))),
      h("tbody", {}, rows.map((row, i) => h("tr", {}, h("th", { scope: "row" }, row.method), cells(row, i))))));
}
