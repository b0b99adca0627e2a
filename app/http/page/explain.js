// Explanations: what theory says about a dataset or a collection.

import { call, download, path } from "./api.js";
import { report, sourceField, uploadField } from "./benchmark.js";
import { count, h, problem, say } from "./html.js";
import { recent, watch } from "./jobs.js";

export async function show(view, { collections, job, signal }) {
  const [datasets, encoders, jobs] = await Promise.all([
    call("v1/datasets"),
    call("v1/encoders"),
    call("v1/explanations"),
  ]);
  const usable = collections.filter((each) => each.keep_descriptors && each.items).map((each) => each.name);
  const request = jobs.find((each) => each.id === job)?.request;
  const result = h("section", { class: "answer", "aria-labelledby": "run-title" });
  view.append(
    h("h1", {}, "Explain"),
    h("p", {}, "What theory says about your data: how many dimensions they use, what a Hamming distance means, how " +
      "many bits and labels they need, and what codes give away. Each law is measured, with error bars."),
    h("div", { class: "two" }, h("section", { class: "ask", "aria-labelledby": "start-title" },
      form(datasets, usable, encoders, request), listed(jobs, job)), result),
  );
  const chosen = job ?? jobs[0]?.id;
  if (chosen === undefined) {
    result.append(h("h2", { id: "run-title" }, "No explanation yet"),
      h("p", { class: "empty" }, "Start one to see the laws, figures and plots here. 10,000 items take a minute or two."));
    return;
  }
  const title = h("h2", { id: "run-title", tabindex: job === undefined ? null : "-1" }, "Explanation");
  watch(result, title, chosen, signal, ["explanation", "explanations"], {
    changed: (each) => {
      title.textContent = `What theory says about ${each.request.dataset ?? each.request.collection}`;
      say(`The explanation is ${each.state}.`);
    },
    ended: async (each) => {
      const parts = await found(each);
      if (!signal.aborted) result.replaceChildren(title, ...parts);
    },
  }).catch((error) => {
    if (!signal.aborted) result.replaceChildren(title, problem(error));
  });
}

/** The form that starts an explanation, filled in like `request` if it is given. */
function form(datasets, collections, encoders, request) {
  const source = sourceField(datasets, collections, request);
  const encoder = h("select", { id: "encoder" }, h("option", { value: "" }, "sdh, if there are labels"),
    encoders.map(({ name }) => h("option", { value: name, selected: name === request?.encoder }, name)));
  const error = h("div");
  const start = async (event) => {
    event.preventDefault();
    error.replaceChildren();
    try {
      const chosen = encoder.value ? { encoder: encoder.value } : {};
      const accepted = await call("v1/explanations", { method: "POST", json: { ...JSON.parse(source.value), ...chosen } });
      location.hash = `#/explain/${encodeURIComponent(accepted.id)}`;
    } catch (reason) {
      error.replaceChildren(problem(reason));
    }
  };
  return h("form", { class: "stack", onsubmit: start },
    h("h2", { id: "start-title" }, "New explanation"),
    h("label", { for: "source" }, "Data"), source, uploadField(source),
    h("label", { for: "encoder" }, "Encoder to compare with random ones"), encoder,
    error, h("button", {}, "Start"));
}

function listed(jobs, current) {
  return recent("Recent explanations", jobs, current, (job) => ({
    href: `#/explain/${encodeURIComponent(job.id)}`,
    text: `${job.request.dataset ?? job.request.collection}, ${count(job.request.laws.length, "law")}`,
  }));
}

async function found(job) {
  if (job.state === "cancelled") return [h("p", { class: "empty" }, "This explanation was cancelled.")];
  if (job.state === "failed") return [h("p", { class: "problem" }, `This explanation failed: ${job.error}`)];
  const { dataset, trained, findings } = job.result;
  const pictures = await plotsOf(job.id);
  return [
    h("p", {}, `${count(dataset.sampled, "item")} of ${dataset.items.toLocaleString("en")}, of dimension ` +
      `${dataset.dimension}. ${trained ? `The trained encoder is ${trained}.` : "No trained encoder was compared."}`),
    h("p", {}, report("explanations", job.id)),
    ...findings.map((each) => law(each, pictures.splice(0, each.plots.length))),
  ];
}

/** Return the plots of the report of an explanation, in the order of the laws. */
async function plotsOf(id) {
  const text = await (await download(path("explanations", id, "report"))).text();
  return (text.match(/<svg[^]*?<\/svg>/g) ?? []).map((each) => {
    const plot = new DOMParser().parseFromString(each, "image/svg+xml").documentElement;
    plot.classList.add("plot");
    return document.importNode(plot, true);
  });
}

function law({ law: { key, question, statement, limit, source }, answer, figures, plots, problem: missing }, pictures) {
  return h("section", { class: "finding", "data-law": key },
    h("h3", {}, question),
    missing === null ? h("p", { class: "answers" }, answer) : h("p", { class: "problem" }, `Not measured: ${missing}.`),
    h("div", { class: "figures" },
      plots.map(({ caption }, at) => h("figure", {}, pictures[at], h("figcaption", {}, caption))),
      figures.length ? h("div", { class: "scroll" }, h("table", {}, h("tbody", {},
        figures.map((each) => h("tr", {}, h("th", { scope: "row" }, each.name), h("td", {}, each.text)))))) : null),
    h("p", {}, h("strong", {}, "The law. "), statement),
    h("p", {}, h("strong", {}, "Where it stops. "), limit),
    h("p", { class: "note" }, `${source}.`));
}
