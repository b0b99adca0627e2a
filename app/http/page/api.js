// The service, as this page calls it.

const KEY = "bitcell-key";

/** What the service refused, in its own words. */
export class Refused extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

export const key = {
  get: () => sessionStorage.getItem(KEY),
  set: (value) => sessionStorage.setItem(KEY, value),
  forget: () => sessionStorage.removeItem(KEY),
};

async function send(path, { method = "GET", json, file, signal } = {}) {
  const headers = {};
  if (key.get()) headers.Authorization = `Bearer ${key.get()}`;
  if (json !== undefined) headers["Content-Type"] = "application/json";
  if (file) headers["Content-Type"] = file.type.startsWith("image/") ? file.type : "image/*";
  const body = json === undefined ? file : JSON.stringify(json);
  let answer;
  try {
    answer = await fetch(path, { method, headers, body, signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, "The service does not answer. Is it running?");
  }
  if (!answer.ok) {
    const problem = await answer.json().catch(() => ({}));
    throw new Refused(answer.status, problem.detail || `The service answered ${answer.status}.`);
  }
  return answer;
}

/** The JSON that a call answers with. */
export async function call(path, options) {
  return (await send(path, options)).json();
}

/** The body of an answer, as a file. */
export async function download(path) {
  return (await send(path)).blob();
}

/** A job at each of its changes. EventSource could not send a key. */
export async function* follow(job, signal) {
  const answer = await send(`/v1/jobs/${encodeURIComponent(job)}/events`, { signal });
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += value;
    const events = text.split("\n\n");
    text = events.pop();
    for (const event of events) {
      if (event.startsWith("data: ")) yield JSON.parse(event.slice(6));
    }
  }
}

export const path = (...parts) => "/v1/" + parts.map(encodeURIComponent).join("/");
