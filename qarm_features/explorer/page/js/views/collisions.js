/* Collisions: semantic IDs that several items share. In: a list of them. Out: a page. */
import { h } from "../dom.js";
import { card, chips, empty, growing, itemLine, pageHead, sampleNote } from "../parts.js";
import { link } from "../route.js";
import { ask } from "../source.js";
import { counted, percent } from "../text.js";

const STEP = 20; // semantic IDs of one step of the list

export async function collisionsView() {
  const [first, summary, sampled] = await Promise.all([ask("collisions", null, { offset: 0, limit: STEP }), ask("summary"), sampleNote()]);
  const share = summary.items ? summary.colliding_items / summary.items : 0;
  return [
    pageHead("Collisions", h("p.lead", {}, `${counted(summary.colliding_items, "item")}, ${percent(share)} of all, share their semantic ID with another item. A ranking model cannot tell them apart by it.`), sampled),
    first.length
      ? growing({ label: "Semantic IDs, those of most items first", first, total: Infinity, line: collision, more: (offset) => ask("collisions", null, { offset, limit: STEP }) })
      : empty("Every item has a semantic ID of its own."),
  ];
}

function collision(one) {
  const equal = one.equal_contents
    ? `${counted(one.equal_contents, "of them has", "of them have")} the same content as another one.`
    : "Their contents differ.";
  return card(null,
    h("p.collision-head", {}, h("a", { href: link("tree", one.rq_codes.join(".")), "aria-label": `Prefix ${one.rq_codes.join(".")}` }, chips(one.rq_codes)), h("b", {}, counted(one.items, "item")), h("span.muted", {}, equal)),
    h("div.columns", {}, one.examples.map((item) => itemLine(item))));
}
