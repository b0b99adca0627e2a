// Near-duplicates: start a search, follow it, and show the groups that it found.

import { call, download, key, path } from "./api.js";
import { count, goTo, h, problem, say } from "./html.js";
import { recent, watch } from "./jobs.js";
import { link, picture } from "./neighbours.js";

const GROUPS_AT_ONCE = 10;

export async function show(view, { collection, id, signal }) {
  const [about, jobs] = await Promise.all([call(path("collections", collection)), call("v1/jobs?limit=1000")]);
  const searches = jobs.filter((job) => job.kind === "duplicates" && job.request.collection === collection);
  const chosen = id ?? searches[0]?.id;
  const answer = h("section", { class: "answer", "aria-labelledby": "found-title" });
  view.append(
    h("h1", {}, "Near-duplicates in ", h("em", {}, collection)),
    h("p", {}, "Find every pair of items whose codes differ in at most a few bits. Items that are connected by pairs form a group."),
    h("div", { class: "two" },
      h("section", { class: "ask", "aria-labelledby": "start-title" }, form(about, searches.find((job) => job.id === chosen)),
        listed(collection, searches, chosen)), answer),
  );
  if (chosen === undefined) {
    answer.append(h("h2", { id: "found-title" }, "No search yet"),
      h("p", { class: "empty" }, "Start one to see its groups here."));
    return;
  }
  watchSearch(answer, collection, chosen, signal, id !== undefined).catch((error) => {
    if (!signal.aborted) answer.replaceChildren(h("h2", { id: "found-title" }, "Groups"), problem(error));
  });
}

const address = (collection, id) => `#/duplicates/${encodeURIComponent(collection)}/${encodeURIComponent(id)}`;

function form(about, job) {
  const radius = h("input", { id: "radius", type: "number", min: 0, max: about.n_bits, required: true,
    value: job?.request.radius ?? Math.round(about.n_bits / 16) });
  const error = h("div");
  const start = async (event) => {
    event.preventDefault();
    error.replaceChildren();
    try {
      const accepted = await call(path("collections", about.name, "duplicates"), { method: "POST", json: { radius: Number(radius.value) } });
      location.hash = address(about.name, accepted.id);
    } catch (reason) {
      error.replaceChildren(problem(reason));
    }
  };
  return h("form", { class: "stack", onsubmit: start },
    h("h2", { id: "start-title" }, "New search"),
    h("label", { for: "radius" }, `Radius: bits that may differ, of ${about.n_bits}`), radius, error, h("button", {}, "Start"));
}

function listed(collection, searches, current) {
  return recent("Recent searches", searches, current, (job) => ({
    href: address(collection, job.id),
    text: `radius ${job.request.radius}`,
    more: job.request.filter ? ", filtered" : null,
  }));
}

function watchSearch(section, collection, id, signal, wasChosen) {
  const title = h("h2", { id: "found-title", tabindex: wasChosen ? "-1" : null }, "Groups");
  return watch(section, title, id, signal, ["search", "searches"], {
    ended: (job) => {
      section.replaceChildren(title, ...result(collection, job, signal));
      say(job.state === "done" ? `${count(job.result.groups, "group")} found.` : `The search is ${job.state}.`);
    },
  });
}

function result(collection, job, signal) {
  if (job.state === "cancelled") return [h("p", { class: "empty" }, "This search was cancelled.")];
  if (job.state === "failed") return [h("p", { class: "problem" }, `This search failed: ${job.error}`)];
  const found = job.result;
  const summary = h("p", {}, `${count(found.grouped, "item")} of ${found.items.toLocaleString("en")} are within ` +
    `${count(found.radius, "bit")} of another, in ${count(found.groups, "group")} with ` +
    `${found.truncated ? "more than " : ""}${count(found.pairs, "pair")}.`);
  if (!found.groups) return [summary];
  const list = h("ol", { class: "groups" });
  let shown = 0;
  const more = h("button", { class: "plain" }, "Show more groups");
  const next = (isClick) => {
    const groups = found.largest.slice(shown, shown + GROUPS_AT_ONCE).map((group) => groupCard(collection, group, signal));
    shown += groups.length;
    list.append(...groups);
    more.hidden = shown >= found.largest.length;
    if (isClick) goTo(groups[0].querySelector("h3"));
  };
  more.addEventListener("click", () => next(true));
  next(false);
  const rest = found.groups - found.largest.length;
  return [summary, list, more, h("p", {}, allGroups(job.id),
    rest > 0 ? h("span", { class: "note" }, ` as JSON lines, with ${count(rest, "group")} that this page does not show.`) : null)];
}

function groupCard(collection, group, signal) {
  const pairs = group.pairs ? `${count(group.pairs, "pair")}, at most ${count(group.farthest, "bit")} apart` : "pairs left out";
  const items = group.ids.map((id) => h("li", {}, itemLink(collection, id, signal)));
  const left = group.items - group.ids.length;
  return h("li", {}, h("h3", { tabindex: "-1" }, `${count(group.items, "item")}, `, h("span", { class: "note" }, pairs)),
    h("ul", { class: "items" }, items),
    left > 0 ? h("p", { class: "note" }, `and ${count(left, "more item", "more items")}`) : null);
}

/** A link to the neighbours of an item, with its picture as soon as that is there. */
function itemLink(collection, id, signal) {
  const element = h("a", { href: link(collection, id), title: id, "aria-label": id }, picture({ id }));
  call(path("collections", collection, "items", id), { signal })
    .then((item) => element.replaceChildren(picture(item)))
    .catch(() => element.setAttribute("title", `${id}: not there any more`));
  return element;
}

function allGroups(id) {
  const url = path("jobs", id, "groups");
  if (!key.get()) return h("a", { href: url, download: `duplicates-${id}.jsonl` }, "Download all groups");
  // A link cannot send the key.
  const save = async () => {
    const file = URL.createObjectURL(await download(url));
    h("a", { href: file, download: `duplicates-${id}.jsonl` }).click();
    URL.revokeObjectURL(file);
  };
  const button = h("button", { class: "plain", onclick: () => save().catch((error) => button.after(problem(error))) },
    "Download all groups");
  return button;
}
