// Elements: text goes in as text, so nothing that comes from the service is ever run.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child != null && child !== false));
  return element;
}

export const h = (tag, attributes = {}, ...children) =>
  fill(document.createElement(tag), attributes, children);

export const s = (tag, attributes = {}, ...children) =>
  fill(document.createElementNS(SVG, tag), attributes, children);

export const count = (n, one, many = `${one}s`) =>
  `${n.toLocaleString("en")} ${n === 1 ? one : many}`;

/** Focus a heading, and scroll to it where it is not in the upper half of the window. */
export function goTo(title) {
  title.focus({ preventScroll: true });
  const { top } = title.getBoundingClientRect();
  if (top < 0 || top > innerHeight / 2) title.scrollIntoView();
}

/** Something went wrong, in words. */
export const problem = (error) => h("p", { class: "problem", role: "alert" }, error.message);

/** Tell those who do not see the page change. */
export function say(text) {
  document.getElementById("status").textContent = text;
}
