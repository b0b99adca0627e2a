// Which view is shown: that which the address names, so that links and the back button work.

import { call, key, Refused } from "./api.js";
import * as benchmark from "./benchmark.js";
import * as collection from "./collection.js";
import { goTo, h, problem } from "./html.js";
import * as neighbours from "./neighbours.js";

const $ = (id) => document.getElementById(id);
const VIEWS = { neighbours, collection, benchmark };
let turn = null; // of the view that is being shown: aborted when another one is

function address() {
  let parts = [];
  try {
    parts = location.hash.split("/").map(decodeURIComponent);
  } catch {
    // Mistyped: as if there were none.
  }
  const [, name, chosen, id] = parts;
  return { name: Object.hasOwn(VIEWS, name) ? name : "neighbours", chosen, id };
}

async function show() {
  turn?.abort();
  const { signal } = (turn = new AbortController());
  const { name, chosen, id } = address();
  for (const link of document.querySelectorAll("nav a")) {
    const here = link.hash === `#/${name}`;
    here ? link.setAttribute("aria-current", "page") : link.removeAttribute("aria-current");
  }
  const view = h("div", { "data-view": location.hash.slice(2) });
  try {
    const collections = await call("/v1/collections", { signal });
    $("access").hidden = true;
    $("forget").hidden = !key.get();
    const names = collections.map((one) => one.name);
    const asked = name === "benchmark" ? "" : chosen;
    const before = $("collections").value;
    const used = asked || [before, "demo"].find((one) => names.includes(one)) || names[0];
    choose(names, used, name);
    document.title = `${name[0].toUpperCase()}${name.slice(1)} · Bitcell`;
    if (name === "benchmark") {
      await benchmark.show(view, { collections, job: chosen, signal });
    } else if (!names.length) {
      view.append(h("h1", {}, "No collection yet"), h("p", { class: "empty" }, "Make an encoder with ",
        h("code", {}, "POST /v1/encoders"), " and a collection for its codes with ", h("code", {}, "POST /v1/collections"), "."));
    } else {
      await VIEWS[name].show(view, { collection: used, id, signal });
    }
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
  // Who chose something here goes on from what it led to.
  const title = $("view").contains(document.activeElement) && view.querySelector("h2[tabindex]");
  $("view").replaceChildren(view);
  if (title) goTo(title);
}

function choose(names, used, view) {
  const select = $("collections");
  $("chooser").hidden = view === "benchmark" || !names.length;
  select.replaceChildren(...names.map((name) => h("option", { value: name, selected: name === used }, name)));
  select.value = used;
}

function askForKey() {
  $("access-reason").textContent = key.get()
    ? "The key was refused: it is wrong, or has been revoked."
    : "This service answers only to those who have an API key.";
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
// A file that misses its place is not to replace the page.
for (const kind of ["dragover", "drop"]) addEventListener(kind, (event) => event.preventDefault());
show();
