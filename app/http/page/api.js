// Calls to the service.

const KEY = "bitcell-key";

/** An answer that is not a success. The message is the service's own. */
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

async function send(path, { method = "GET", json, file, type, signal } = {}) {
  const headers = {};
  if (key.get()) headers.Authorization = `Bearer ${key.get()}`;
  if (json !== undefined) headers["Content-Type"] = "application/json";
  if (file) headers["Content-Type"] = type ? type : file.type.startsWith("image/") ? file.type : "image/*";
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
    throw new Refused(answer.status, problem.detail || `The service answered with status ${answer.status}.`);
  }
  return answer;
}

/** Return the JSON of an answer. */
export async function call(path, options) {
  return (await send(path, options)).json();
}

/** Return the body of an answer as a file. */
export async function download(path) {
  return (await send(path)).blob();
}

/** Yield a job at each of its changes. EventSource cannot be used: it cannot send a key. */
export async function* follow(job, signal) {
  const answer = await send(`v1/jobs/${encodeURIComponent(job)}/events`, { signal });
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

// Relative to the page, which may be below a prefix.
export const path = (...parts) => "v1/" + parts.map(encodeURIComponent).join("/");
