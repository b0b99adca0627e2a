// What the views of jobs share: the list of recent jobs, and the progress of one until it ends.

import { call, follow, path } from "./api.js";
import { count, h, problem } from "./html.js";

const ENDED = ["done", "failed", "cancelled"];
const MAX_LISTED = 12;

// `entry` returns the address of a job, the text of its link, and what follows the link.
export function recent(label, jobs, current, entry) {
  if (!jobs.length) return null;
  const time = (job) => new Date(1000 * job.created).toLocaleString(undefined, { dateStyle: "short", timeStyle: "short" });
  const item = (job) => {
    const { href, text, more = null } = entry(job);
    return h("li", {},
      h("a", { href, "aria-current": job.id === current ? "true" : null }, text), more,
      " ", h("span", { class: "note" }, h("span", { "data-job": job.id }, job.state), `, ${time(job)}`));
  };
  return h("nav", { "aria-label": label }, h("h3", {}, "Recent"),
    h("ul", { class: "jobs" }, jobs.slice(0, MAX_LISTED).map(item)));
}

// Show the progress of a job under a title. Call `changed` at each new state, and `ended` once.
export async function watch(section, title, id, signal, [name, plural], { changed = () => {}, ended }) {
  const state = h("p", { id: "state" });
  const bar = h("progress", { "aria-label": "Progress", max: 1 });
  const cancel = h("button", { class: "plain", onclick: () =>
    call(path("jobs", id), { method: "DELETE" }).catch((error) => state.replaceChildren(problem(error))) }, "Cancel");
  section.replaceChildren(title, state, bar, cancel);
  let lastState = null;
  for await (const job of follow(id, signal)) {
    bar.max = job.progress?.of ?? 1;
    if (job.state === "queued") bar.removeAttribute("value");
    else bar.value = job.progress?.done ?? 0;
    state.textContent = progressText(job);
    const listed = document.querySelector(`[data-job="${CSS.escape(job.id)}"]`);
    if (listed) listed.textContent = job.state;
    if (job.state !== lastState) changed(job);
    lastState = job.state;
    if (ENDED.includes(job.state)) return ended(job);
  }
  throw new Error(`The service has stopped, or the ${name} was deleted. Reload the page when the service is back: it then runs unfinished ${plural} again.`);
}

function progressText(job) {
  const { done = 0, of = 1, now = "", seconds_left: left } = job.progress ?? {};
  if (job.state === "queued") return now && now !== "queued" ? `Queued: ${now}.` : "Queued.";
  return `${done} of ${count(of, "step")} done.${now && ` Now: ${now}.`}${left == null ? "" : ` About ${duration(left)} left.`}`;
}

const duration = (seconds) => (seconds < 90 ? `${Math.ceil(seconds)} s` : `${Math.round(seconds / 60)} min`);
