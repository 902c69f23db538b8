/* Make elements. In: a tag, attributes and children. Out: an element. Text only ever becomes text, never HTML. */

const SVG = "http://www.w3.org/2000/svg";

/**
 * Return a new element.
 *
 * @param {string} tag Such as "a" or "p.note": a tag and classes.
 * @param {object} attributes Attributes; `on...` are listeners, `style` is an object, false and null leave one out.
 * @param {...(Node|string|number|null|Array)} children Texts and nodes.
 */
export function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag.split(".")[0]), tag, attributes, children);
}

/** Return a new element of SVG. */
export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag.split(".")[0]), tag, attributes, children);
}

function fill(element, tag, attributes, children) {
  const classes = tag.split(".").slice(1);
  if (classes.length) element.classList.add(...classes);
  for (const [name, value] of Object.entries(attributes)) setAttribute(element, name, value);
  element.append(...children.flat(2).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

function setAttribute(element, name, value) {
  if (value === null || value === undefined || value === false) return;
  if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
  else if (name === "style") for (const [key, one] of Object.entries(value)) element.style.setProperty(key, one);
  else if (name === "class") element.classList.add(...value.split(" ").filter(Boolean));
  else element.setAttribute(name, value === true ? "" : value);
}

/** Put nodes into an element in place of what is there. */
export function replace(element, ...children) {
  element.replaceChildren(...children.flat(2).filter((child) => child !== null && child !== false));
  return element;
}
