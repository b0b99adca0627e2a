// Whether the codes of new items differ from those of a reference, and taking a new reference.

import { call, path } from "./api.js";
import { count, h, problem, say } from "./html.js";

const NAMES = {
  balance: ([bit]) => `ones of bit ${bit}`,
  correlation: (bits) => `r of bits ${bits.join(" and ")}`,
  nearest: () => "nearest (mean)",
};
const DIGITS = { balance: 3, correlation: 2, nearest: 1 };

/** Create the figure on drift; `drift` is null if the collection has too few items. */
export function driftFigure(collection, drift) {
  const figure = h("figure", {});
  fill(figure, collection, drift);
  return figure;
}

function fill(figure, collection, drift) {
  figure.replaceChildren(h("h2", {}, "Drift"), ...(drift === null ? [tooFew()] : [
    h("p", { class: drift.alarm ? "problem" : null }, state(drift)),
    drift.tests.length ? table(drift) : null,
    h("figcaption", {}, "New items (after) are compared with the reference (before), at least 1,000 at a time. When they differ, " +
      "the encoder may no longer fit the data. Without a change, ten windows raise an alarm with a probability of at most " +
      `${100 * drift.false_alarm_rate}\u00a0%.`),
    h("p", { class: "note" }, `The reference has ${count(drift.reference, "item")}; ${count(drift.waiting, "new item")} ` +
      `${drift.waiting === 1 ? "is" : "are"} not yet tested.`),
    drift.alarm ? accept(figure, collection) : null,
  ].flat()).filter(Boolean));
}

const tooFew = () => h("p", { class: "empty" }, "Drift is watched from 2,000 items on.");

function state(drift) {
  if (!drift.windows) return "No new items have been tested since the reference was taken.";
  const windows = `the last ${count(drift.windows, "window")} of new items`;
  if (!drift.alarm) return `No difference in ${windows}.`;
  return drift.windows === 1 ? "New items differ from the reference." :
    `New items differ from the reference in ${drift.alarms} of ${windows}.`;
}

function table(drift) {
  const rows = drift.tests.map((test) => h("tr", {},
    h("th", { scope: "row" }, NAMES[test.what](test.bits)),
    [test.before, test.after].map((value) => h("td", {}, value.toFixed(DIGITS[test.what]).replace("-", "−"))),
    h("td", {}, test.alarm ? h("strong", {}, test.p_value.toFixed(3)) : test.p_value.toFixed(3))));
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Tests for drift" },
    h("table", {},
      h("thead", {}, h("tr", {}, ["change", "before", "after", "p"].map((name) => h("th", { scope: "col" }, name)))),
      h("tbody", {}, rows)));
}

function accept(figure, collection) {
  const error = h("div");
  const take = async () => {
    error.replaceChildren();
    try {
      fill(figure, collection, await call(path("collections", collection, "drift", "reference"), { method: "POST" }));
      say("The present items are the reference now.");
    } catch (reason) {
      error.replaceChildren(problem(reason));
    }
  };
  return [h("button", { type: "button", onclick: take }, "Accept the present items"), error];
}
