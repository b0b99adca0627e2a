// The neighbours of an item or of an image, as pictures with the bits that differ.

import { call, path } from "./api.js";
import { cells, legend } from "./bits.js";
import { count, goTo, h, problem, say } from "./html.js";

const K = 12;
const PAGE = 24;
const GIST = 384;
const seen = new Map(); // the page of each collection that was looked at last

const link = (collection, id) =>
  `#/neighbours/${encodeURIComponent(collection)}/${encodeURIComponent(id)}`;

/** The picture in an item's payload, or a tile with words. */
function picture(item) {
  const values = Object.values(item.payload ?? {});
  const uri = values.find((value) => typeof value === "string" && value.startsWith("data:image/"));
  if (uri) return h("img", { class: "picture", src: uri, alt: "" });
  return h("span", { class: "picture tile", "aria-hidden": "true" }, `${item.label ?? item.id}`.slice(0, 24));
}

const labelled = (item) => (item.label === undefined ? null : h("span", {}, `label ${item.label}`));

export async function show(view, { collection, id }) {
  const about = await call(path("collections", collection));
  view.append(h("h1", {}, "Neighbours in ", h("em", {}, collection)));
  if (!about.items) {
    view.append(
      h("p", { class: "empty" }, "This collection is empty. Put items in with ",
        h("code", {}, `PUT ${path("collections", collection, "items")}`), "."),
    );
    return;
  }
  const encoder = await call(path("encoders", about.encoder));
  const answer = h("section", { class: "answer", "aria-labelledby": "answer-title" });
  const ask = h("section", { class: "ask", "aria-labelledby": "ask-title" });
  view.append(h("div", { class: "two" }, ask, answer));
  const byImage = (file) => answerImage(answer, about, file);
  ask.append(
    h("h2", { id: "ask-title" }, "Ask with"),
    image(encoder, byImage),
    named(about),
    await items(about, id),
  );
  if (id === undefined) {
    answer.append(
      h("h2", { id: "answer-title" }, "Nothing asked yet"),
      h("p", { class: "empty" }, "Choose an item", encoder.dimension === GIST ? ", or drop an image," : "",
        " and its neighbours stand here, each with its Hamming distance and the bits that differ."),
    );
    return;
  }
  const query = { ids: [id], k: K + 1, codes: true };
  await answered(answer, about, id, { json: query }, async (found) => {
    const item = await call(path("collections", about.name, "items", id));
    return { item, near: found.results[0].filter((one) => one.id !== id).slice(0, K) };
  });
}

async function answerImage(answer, about, file) {
  const url = URL.createObjectURL(file);
  const shown = { id: file.name || "the image", payload: {} };
  await answered(answer, about, shown.id, { file }, (found) => ({
    item: shown,
    near: found.results[0],
    preview: h("img", { class: "picture", src: url, alt: "", onload: () => URL.revokeObjectURL(url) }),
  }));
}

// Whatever was asked before is no longer waited for.
let newest = 0;

async function answered(answer, about, name, { json, file }, read) {
  const mine = ++newest;
  const url = path("collections", about.name, "query");
  const title = h("h2", { id: "answer-title", tabindex: "-1" }, "Nearest to ", h("em", {}, name));
  answer.setAttribute("aria-busy", "true");
  let found, item, near, preview;
  try {
    found = await call(file ? `${url}?k=${K}&codes=true` : url, { method: "POST", json, file });
    ({ item, near, preview } = await read(found));
  } catch (error) {
    if (mine === newest) answer.replaceChildren(title, problem(error));
    return;
  } finally {
    if (mine === newest) answer.removeAttribute("aria-busy");
  }
  if (mine !== newest) return;
  const [code] = found.codes;
  answer.replaceChildren(
    title,
    h("div", { class: "card query" }, preview ?? picture(item),
      h("p", {}, h("strong", {}, name), labelled(item), h("span", { class: "note" }, "the query's code")),
      cells(code, about.n_bits)),
    near.length ? legend() : h("p", { class: "empty" }, "There is no other item."),
    h("ol", { class: "near" }, near.map((one) => neighbour(about, one, code))),
  );
  const nearest = near.length ? `, the nearest at distance ${near[0].distance}` : "";
  say(`${count(near.length, "neighbour")} of ${name}${nearest}.`);
  if (title.isConnected) goTo(title);
}

function neighbour(about, found, code) {
  return h(
    "li",
    { "data-id": found.id, "data-distance": found.distance },
    h("a", { class: "card", href: link(about.name, found.id) },
      picture(found),
      h("p", {}, h("strong", {}, found.id), labelled(found),
        h("span", { class: "distance" }, h("b", {}, found.distance + ""), ` of ${about.n_bits} bits differ`)),
      cells(found.code, about.n_bits, code)),
  );
}

function image(encoder, byImage) {
  if (encoder.dimension !== GIST) {
    return h("p", { class: "note" }, `Images can ask in collections of GIST descriptors, which have ${GIST} ` +
      `numbers. This one takes descriptors of ${encoder.dimension}.`);
  }
  const input = h("input", { id: "file", type: "file", accept: "image/png,image/jpeg,image/webp,image/gif,image/bmp",
    class: "visually-hidden", onchange: () => input.files[0] && byImage(input.files[0]) });
  const over = (event) => {
    event.preventDefault();
    drop.classList.add("over");
  };
  const drop = h("label", { class: "drop", for: "file",
    ondragenter: over, ondragover: over, ondragleave: () => drop.classList.remove("over"),
    ondrop: (event) => {
      event.preventDefault();
      drop.classList.remove("over");
      if (event.dataTransfer.files[0]) byImage(event.dataTransfer.files[0]);
    } },
    h("span", {}, "Drop an image here, or ", h("u", {}, "choose one")));
  return h("div", {}, input, drop);
}

function named(about) {
  const field = h("input", { id: "id", required: true, autocomplete: "off", spellcheck: "false" });
  const ask = (event) => {
    event.preventDefault();
    location.hash = link(about.name, field.value);
  };
  return h("form", { class: "row", onsubmit: ask }, h("label", { for: "id" }, "Item"), field, h("button", {}, "Ask"));
}

async function items(about, current) {
  let offset = 0;
  const list = h("ul", { class: "items" });
  const where = h("span", { class: "note" });
  const turn = async (to) => {
    const page = await call(`${path("collections", about.name, "items")}?limit=${PAGE}&offset=${to}`);
    if (to > 0 && page.items.length === 0) return turn(0);
    offset = to;
    seen.set(about.name, to);
    const last = offset + page.items.length;
    where.textContent = `${offset + 1} to ${last} of ${page.of.toLocaleString("en")}`;
    earlier.disabled = offset === 0;
    later.disabled = last >= page.of;
    list.replaceChildren(
      ...page.items.map((item) => {
        const label = item.label === undefined ? item.id : `${item.id}, label ${item.label}`;
        return h("li", {}, h("a", { href: link(about.name, item.id), title: label, "aria-label": label,
          "aria-current": item.id === current ? "true" : null }, picture(item)));
      }),
    );
  };
  const tell = (error) => list.replaceChildren(h("li", {}, problem(error)));
  const earlier = h("button", { class: "plain", onclick: () => turn(Math.max(0, offset - PAGE)).catch(tell) }, "Earlier");
  const later = h("button", { class: "plain", onclick: () => turn(offset + PAGE).catch(tell) }, "Later");
  await turn(seen.get(about.name) ?? 0).catch(tell);
  return h("div", {}, h("h3", {}, "An item of the collection"), list, h("p", { class: "turn" }, earlier, where, later));
}
