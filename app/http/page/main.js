// Show the view that the address names, so that links and the back button work.

import { call, key, Refused } from "./api.js";
import * as benchmark from "./benchmark.js";
import * as collection from "./collection.js";
import * as duplicates from "./duplicates.js";
import * as explain from "./explain.js";
import { goTo, h, problem } from "./html.js";
import * as neighbours from "./neighbours.js";
import * as recommend from "./recommend.js";

const $ = (id) => document.getElementById(id);
const VIEWS = { neighbours, collection, duplicates, benchmark, recommend, explain };
// Views of jobs on any data; the others are of the collection that is chosen.
const JOB_VIEWS = ["benchmark", "recommend", "explain"];
let controller = null; // aborts the requests of the current view when another one is shown

function address() {
  let parts = [];
  try {
    parts = location.hash.split("/").map(decodeURIComponent);
  } catch {
    // The address cannot be decoded: show the first view.
  }
  const [, name, chosen, id] = parts;
  return { name: Object.hasOwn(VIEWS, name) ? name : "neighbours", chosen, id };
}

async function show() {
  controller?.abort();
  const { signal } = (controller = new AbortController());
  const view = h("div", { "data-view": location.hash.slice(2) });
  markCurrentLink();
  try {
    const collections = await call("v1/collections", { signal });
    $("access").hidden = true;
    $("forget").hidden = !key.get();
    await fillView(view, collections, signal);
  } catch (error) {
    if (signal.aborted) return;
    if (error instanceof Refused && error.status === 401) {
      askForKey();
      return;
    }
    if (!(error instanceof Refused)) console.error(error);
    view.append(problem(error));
  }
  if (signal.aborted) return;
  // If the focus was in the old view, move it to the heading of what was chosen there.
  const title = $("view").contains(document.activeElement) && view.querySelector("h2[tabindex]");
  $("view").replaceChildren(view);
  if (title) goTo(title);
}

function markCurrentLink() {
  const { name } = address();
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#/${name}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

async function fillView(view, collections, signal) {
  const { name, chosen, id } = address();
  const names = collections.map((each) => each.name);
  const named = JOB_VIEWS.includes(name) ? "" : chosen;
  const before = $("collections").value;
  const used = named || [before, "demo"].find((each) => names.includes(each)) || names[0];
  fillChooser(names, used, name);
  document.title = `${name[0].toUpperCase()}${name.slice(1)} · Bitcell`;
  if (JOB_VIEWS.includes(name)) {
    await VIEWS[name].show(view, { collections, job: chosen, signal });
  } else if (!names.length) {
    view.append(h("h1", {}, "No collection yet"), h("p", { class: "empty" }, "Create an encoder with ",
      h("code", {}, "POST /v1/encoders"), ", then a collection for its codes, or one for codes of your own, with ",
      h("code", {}, "POST /v1/collections"), "."));
  } else {
    await VIEWS[name].show(view, { collection: used, id, signal });
  }
}

function fillChooser(names, used, view) {
  const select = $("collections");
  $("chooser").hidden = JOB_VIEWS.includes(view) || !names.length;
  select.replaceChildren(...names.map((name) => h("option", { value: name, selected: name === used }, name)));
  select.value = used;
}

function askForKey() {
  $("access-reason").textContent = key.get()
    ? "The service refused this key: it is wrong or has been revoked."
    : "This service answers only requests with an API key.";
  key.forget();
  $("view").replaceChildren();
  $("chooser").hidden = $("forget").hidden = true;
  $("access").hidden = false;
  $("key").focus();
}

$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  key.set($("key").value.trim());
  $("key").value = "";
  show();
});
$("forget").addEventListener("click", () => {
  key.forget();
  show();
});
$("collections").addEventListener("change", () => {
  location.hash = `#/${address().name}/${encodeURIComponent($("collections").value)}`;
});
addEventListener("hashchange", show);
// A file that is dropped outside its target must not replace the page.
for (const kind of ["dragover", "drop"]) addEventListener(kind, (event) => event.preventDefault());
show();
