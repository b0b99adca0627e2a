// The neighbours of an item, an image or a code, as pictures with the bits that differ.

import { call, path } from "./api.js";
import { cells, legend } from "./bits.js";
import { count, goTo, h, problem, say } from "./html.js";

const K = 12;
const PAGE_SIZE = 24;
const GIST_DIMENSION = 384;
const IMAGE_TYPES = "image/png,image/jpeg,image/webp,image/gif,image/bmp";
const lastOffsets = new Map(); // by collection: the page of items that was shown last
let wantsAngles = false;

export const link = (collection, id) =>
  `#/neighbours/${encodeURIComponent(collection)}/${encodeURIComponent(id)}`;

/** The picture in an item's payload, or else a tile with its label or id. */
export function picture(item) {
  const values = Object.values(item.payload ?? {});
  const uri = values.find((value) => typeof value === "string" && value.startsWith("data:image/"));
  if (uri) return h("img", { class: "picture", src: uri, alt: "" });
  return h("span", { class: "picture tile", "aria-hidden": "true" }, `${item.label ?? item.id}`.slice(0, 24));
}

const labelOf = (item) => (item.label === undefined ? null : h("span", {}, `label ${item.label}`));

export async function show(view, { collection, id }) {
  const about = await call(path("collections", collection));
  view.append(h("h1", {}, "Neighbours in ", h("em", {}, collection)));
  if (!about.items) {
    view.append(
      h("p", { class: "empty" }, "This collection is empty. Insert items with ",
        h("code", {}, `PUT ${path("collections", collection, "items")}`), "."),
    );
    return;
  }
  const encoder = about.encoder === null ? null : await call(path("encoders", about.encoder));
  const answer = h("section", { class: "answer", "aria-labelledby": "answer-title" });
  const search = h("section", { class: "ask", "aria-labelledby": "search-title" });
  view.append(h("div", { class: "two" }, search, answer));
  search.append(
    h("h2", { id: "search-title" }, "Search"),
    encoder === null
      ? queryForm("code", "Code in hex", (code) => showCode(answer, about, code.trim()))
      : imageField(encoder, (file) => showImage(answer, about, file)),
    queryForm("id", "Item id", (itemId) => { location.hash = link(about.name, itemId); }),
    ...(knowsAngles(about, encoder) ? [angleField(() => id !== undefined && showItem(answer, about, id))] : []),
    await itemList(about, id),
  );
  if (id !== undefined) {
    await showItem(answer, about, id);
    return;
  }
  answer.append(
    h("h2", { id: "answer-title" }, "No search yet"),
    h("p", { class: "empty" }, `Choose an item${otherQuery(encoder)} `,
      "to see its nearest neighbours, with their Hamming distances and the bits that differ."),
  );
}

function otherQuery(encoder) {
  if (encoder === null) return " or give a code";
  return encoder.dimension === GIST_DIMENSION ? " or drop an image" : "";
}

// Whether the service may know which angle a distance means.
const knowsAngles = (about, encoder) =>
  encoder !== null && about.ranking === "hamming" && (about.keep_descriptors || encoder.method === "lsh");

function angleField(onChange) {
  const box = h("input", { type: "checkbox", id: "angles", checked: wantsAngles,
    onchange: () => { wantsAngles = box.checked; onChange(); } });
  return h("p", {}, h("label", { for: "angles" }, box, " Show the angle that each distance means"));
}

async function showItem(answer, about, id) {
  // The item is its own nearest neighbour, so ask for one more.
  const query = { ids: [id], k: K + 1, codes: true };
  await showAnswer(answer, about, id, { json: query }, async (found) => {
    const item = await call(path("collections", about.name, "items", id));
    return { item, neighbours: found.results[0].filter((each) => each.id !== id).slice(0, K) };
  });
}

async function showImage(answer, about, file) {
  const url = URL.createObjectURL(file);
  const item = { id: file.name || "the image", payload: {} };
  await showAnswer(answer, about, item.id, { file }, (found) => ({
    item,
    neighbours: found.results[0],
    preview: h("img", { class: "picture", src: url, alt: "", onload: () => URL.revokeObjectURL(url) }),
  }));
}

async function showCode(answer, about, code) {
  const query = { codes: [code], k: K, return_codes: true };
  const name = code.length > 20 ? `${code.slice(0, 16)}…` : code;
  await showAnswer(answer, about, name, { json: query }, (found) => ({
    item: { id: name, payload: {} },
    neighbours: found.results[0],
  }));
}

let newestSearch = 0; // answers to earlier searches are ignored

async function showAnswer(answer, about, name, { json, file }, read) {
  const search = ++newestSearch;
  const url = path("collections", about.name, "query");
  const title = h("h2", { id: "answer-title", tabindex: "-1" }, "Nearest to ", h("em", {}, name));
  answer.setAttribute("aria-busy", "true");
  // The box belongs to the search of this collection.
  const angles = document.getElementById("angles") !== null && wantsAngles;
  let found, item, neighbours, preview;
  try {
    found = await call(file ? `${url}?k=${K}&codes=true${angles ? "&calibrated=true" : ""}` : url,
      { method: "POST", json: json && { ...json, ...(angles ? { calibrated: true } : {}) }, file });
    ({ item, neighbours, preview } = await read(found));
  } catch (error) {
    if (search === newestSearch) answer.replaceChildren(title, problem(error));
    return;
  } finally {
    if (search === newestSearch) answer.removeAttribute("aria-busy");
  }
  if (search !== newestSearch) return;
  const [code] = found.codes;
  answer.replaceChildren(
    title,
    h("div", { class: "card query" }, preview ?? picture(item),
      h("p", {}, h("strong", {}, name), labelOf(item), h("span", { class: "note" }, "code of the query")),
      cells(code, about.n_bits)),
    neighbours.length ? legend() : h("p", { class: "empty" }, "The collection has no other items."),
    h("ol", { class: "near" }, neighbours.map((each) => neighbourCard(about, each, code, found.certificates[0].calibration))),
  );
  const nearest = neighbours.length ? `, the nearest at distance ${neighbours[0].distance}` : "";
  say(`${count(neighbours.length, "neighbour")} of ${name}${nearest}.`);
  if (title.isConnected) goTo(title);
}

function neighbourCard(about, neighbour, code, calibration) {
  return h(
    "li",
    { "data-id": neighbour.id, "data-distance": neighbour.distance },
    h("a", { class: "card", href: link(about.name, neighbour.id) },
      picture(neighbour),
      h("p", {}, h("strong", {}, neighbour.id), labelOf(neighbour),
        h("span", { class: "distance" }, h("b", {}, neighbour.distance + ""), ` of ${about.n_bits} bits differ`),
        neighbour.angle === undefined ? null : h("span", { class: "note" }, angleText(neighbour, calibration))),
      cells(neighbour.code, about.n_bits, code)),
  );
}

function angleText(neighbour, { level }) {
  const [angle, low, high] = [neighbour.angle, neighbour.angle_low, neighbour.angle_high]
    .map((radians) => `${Math.round((radians * 180) / Math.PI)}°`);
  return `an angle of ${angle}, in ${Math.round(100 * level)}\u00a0% of cases ${low} to ${high}`;
}

function imageField(encoder, onFile) {
  if (encoder.dimension !== GIST_DIMENSION) {
    return h("p", { class: "note" }, `Search by image needs a collection of GIST descriptors, which have ` +
      `${GIST_DIMENSION} numbers. The descriptors of this one have ${encoder.dimension}.`);
  }
  const input = h("input", { id: "file", type: "file", accept: IMAGE_TYPES, class: "visually-hidden",
    onchange: () => input.files[0] && onFile(input.files[0]) });
  const onOver = (event) => {
    event.preventDefault();
    target.classList.add("over");
  };
  const onDrop = (event) => {
    event.preventDefault();
    target.classList.remove("over");
    if (event.dataTransfer.files[0]) onFile(event.dataTransfer.files[0]);
  };
  const target = h("label", { class: "drop", for: "file",
    ondragenter: onOver, ondragover: onOver, ondragleave: () => target.classList.remove("over"), ondrop: onDrop },
    h("span", {}, "Drop an image, or ", h("u", {}, "choose a file")));
  return h("div", {}, input, target);
}

function queryForm(name, label, onQuery) {
  const field = h("input", { id: name, required: true, autocomplete: "off", spellcheck: "false" });
  const onSubmit = (event) => {
    event.preventDefault();
    onQuery(field.value);
  };
  return h("form", { class: "row", onsubmit: onSubmit },
    h("label", { for: name }, label), field, h("button", {}, "Search"));
}

async function itemList(about, currentId) {
  let offset = 0;
  const list = h("ul", { class: "items" });
  const range = h("span", { class: "note" });
  const turnTo = async (newOffset) => {
    const page = await call(`${path("collections", about.name, "items")}?limit=${PAGE_SIZE}&offset=${newOffset}`);
    if (newOffset > 0 && page.items.length === 0) return turnTo(0);
    offset = newOffset;
    lastOffsets.set(about.name, offset);
    const last = offset + page.items.length;
    range.textContent = `${(offset + 1).toLocaleString("en")} to ${last.toLocaleString("en")} of ${page.of.toLocaleString("en")}`;
    previous.disabled = offset === 0;
    next.disabled = last >= page.of;
    list.replaceChildren(...page.items.map((item) => itemLink(about, item, currentId)));
  };
  const showError = (error) => list.replaceChildren(h("li", {}, problem(error)));
  const turnButton = (text, step) =>
    h("button", { class: "plain", onclick: () => turnTo(Math.max(0, offset + step)).catch(showError) }, text);
  const previous = turnButton("Previous", -PAGE_SIZE);
  const next = turnButton("Next", PAGE_SIZE);
  await turnTo(lastOffsets.get(about.name) ?? 0).catch(showError);
  return h("div", {}, h("h3", {}, "Items"), list, h("p", { class: "turn" }, previous, range, next));
}

function itemLink(about, item, currentId) {
  const label = item.label === undefined ? item.id : `${item.id}, label ${item.label}`;
  return h("li", {}, h("a", { href: link(about.name, item.id), title: label, "aria-label": label,
    "aria-current": item.id === currentId ? "true" : null }, picture(item)));
}
