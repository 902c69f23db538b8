/* Parts that many pages share. In: values of the contract. Out: elements. */
import { codeColor, paleColor } from "./colors.js";
import { h } from "./dom.js";
import { link } from "./route.js";
import { ask, pictureOf } from "./source.js";
import { codesOf, count, counted, titleOf } from "./text.js";

/** Return the codes of a prefix or a semantic ID as a row of chips; the first one shows the family by its color. */
export function chips(codes, { links = false } = {}) {
  const one = (code, level) => {
    const colors = level === 0 ? { "--chip": codeColor(code), "--chip-ink": "#fff" } : { "--chip": paleColor(codes[0]) };
    const prefix = codes.slice(0, level + 1).join(".");
    return links
      ? h("a.chip", { href: link("tree", prefix), style: colors, title: `Prefix ${prefix}` }, code)
      : h("span.chip", { style: colors }, code);
  };
  return h("span.chips", { "aria-label": `codes ${codes.join(", ")}`, role: "group" }, codes.map(one));
}

/** Return an item's picture; where it has none, a tile with its initials in the color of its first code. */
export function picture(item, className = "") {
  const initials = [...titleOf(item).replace(/[^\p{L}\p{N} ]/gu, "").trim()].slice(0, 1).join("").toUpperCase();
  const tile = h("span.picture", { class: className, "aria-hidden": "true", style: { "--chip": codeColor(item.rq_codes[0] ?? 0) } }, initials);
  if (item.picture) {
    pictureOf(item).then((src) => {
      if (!src) return;
      const image = h("img", { alt: "", loading: "lazy", decoding: "async", onerror: () => image.remove() });
      image.src = src;
      tile.append(image);
    }).catch(() => {});
  }
  return tile;
}

/** Return a title in its own direction of reading. */
export function title(item) {
  return h("bdi", { dir: "auto" }, titleOf(item));
}

/** Return an item as a line that opens it. */
export function itemLine(item, side = null) {
  return h("a.line", { href: link("item", item.item_id) },
    picture(item),
    h("span.line-text", {}, h("span.line-title", {}, title(item)), chips(item.rq_codes)),
    side === null ? null : h("span.line-side", {}, side));
}

/** Return a list whose lines the arrow keys walk through. */
export function list(lines, label) {
  return h("ul.list", { "aria-label": label, "data-arrows": true }, lines.map((line) => h("li", {}, line)));
}

/** Return a prefix as a line that opens it. */
export function prefixLine(node, side = null) {
  return h("a.line", { href: link("tree", node.prefix) },
    chips(codesOf(node.prefix)),
    h("span.line-text", {}, h("span.line-title", {}, wordsOf(node))),
    h("span.line-side", {}, side ?? counted(node.items, "item")));
}

/** Return the words of a prefix as one text. */
export function wordsOf(node) {
  return node.words.length ? node.words.join(" · ") : node.prefix === "" ? "The whole catalog" : "No word stands out";
}

/** Return a box with a heading. */
export function card(heading, ...children) {
  return h("section.card", {}, heading === null ? null : h("h2", {}, heading), children);
}

/** Return what stands where there is nothing to show, and what to run to get it. */
export function empty(sentence, command = null) {
  return h("div.empty", {}, h("p", {}, sentence), command ? h("code.command", {}, command) : null);
}

/** Return a note below a chart or a list. */
export function note(...children) {
  return h("p.note", {}, children);
}

/** Return the head of a page. */
export function pageHead(heading, ...below) {
  return h("div.page-head", {}, h("h1", { tabindex: "-1" }, heading), below);
}

/** Return a number with its name. */
export function tile(name, number, below = null, href = null) {
  return h(href ? "a.tile" : "div.tile", { href }, h("span.tile-number", {}, number), h("span.tile-name", {}, name), below ? h("span.tile-below", {}, below) : null);
}

/** Return buttons of which one is pressed. */
export function choice(label, options, chosen, choose) {
  const button = ([key, text]) => h("button", { type: "button", "aria-pressed": String(key === chosen), onclick: () => choose(key) }, text);
  return h("div.choice", { role: "group", "aria-label": label }, options.map(button));
}

/** Return a list that asks for more lines, page by page. */
export function growing({ label, first, total, more, line }) {
  const lines = list(first.map(line), label);
  const button = h("button.more", { type: "button" }, "Show more");
  const left = () => { button.hidden = lines.children.length >= total; };
  button.addEventListener("click", async () => {
    button.disabled = true;
    const next = await more(lines.children.length);
    lines.append(...next.map((one) => h("li", {}, line(one))));
    button.disabled = false;
    if (!next.length) total = lines.children.length;
    left();
  });
  left();
  return h("div", {}, lines, button);
}

/** Return a sentence that says that this is a sample, or null where it is not. */
export async function sampleNote() {
  const summary = await ask("summary");
  if (summary.shown_items >= summary.items) return null;
  return h("p.sample", {}, `This is a sample: ${count(summary.shown_items)} of ${counted(summary.items, "item")}, drawn by a hash of their IDs.`);
}
