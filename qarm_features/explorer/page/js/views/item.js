/* Item: its picture and text, what each level of its ID means, its neighbors and its history. In: an ID. Out: a page. */
import { h } from "../dom.js";
import { icon } from "../icons.js";
import { card, chips, empty, itemLine, list, note, pageHead, picture, sampleNote, title, wordsOf } from "../parts.js";
import { link } from "../route.js";
import { isFile } from "../file_source.js";
import { ask } from "../source.js";
import { count, counted, day } from "../text.js";

export async function itemView({ id }) {
  const [page, summary, sampled] = await Promise.all([ask("item", id), ask("summary"), sampleNote()]);
  const { item, path } = page;
  const above = item.rq_codes.slice(0, -1).join(".");
  return [
    h("div.item-head", {},
      picture(item, "huge"),
      pageHead(title(item),
        h("p.item-facts", {}, h("code", {}, item.item_id), chips(item.rq_codes, { links: true }), h("span", {}, counted(item.positives, "positive"))),
        sharing(page),
        page.text.trim() ? h("p.item-text", { tabindex: "0", role: "region", "aria-label": "Text of the item", dir: "auto" }, page.text) : note("It has no text."),
        h("p.buttons", {}, h("a.button", { href: link("tree", above), "data-up": true }, icon("up"), "Its prefix"), h("a.button", { href: link("map", "", { prefix: item.rq_codes[0], item: item.item_id }) }, icon("map"), "On the map")),
        sampled)),
    card("Its semantic ID, level by level", h("ol.levels", {}, path.map((node, n) => levelOf(node, n, item)))),
    sampled && isFile ? note("Neighbors outside of the sample are left out below.") : null,
    h("div.three", {},
      neighbors("By prefix", "They share most levels with it.", page.by_prefix, (value) => `${value} of ${summary.num_levels} levels`, empty("No other item shares its first code.")),
      neighbors("By embedding", "Their embeddings have the highest cosine with its own.", page.by_embedding, (value) => value.toFixed(3), empty("There are no neighbors by embedding.")),
      neighbors("By co-click", "Users liked them before or after it.", page.by_co_click, (value) => counted(value, "time"), empty("Nobody liked it together with another item."))),
    card("History of its semantic ID", history(page.history)),
  ];
}

function sharing(page) {
  if (!page.collisions) return h("p.good", {}, "No other item has its semantic ID.");
  return h("p.warn", {}, h("a", { href: link("tree", page.item.rq_codes.join(".")) }, `${counted(page.collisions, "other item has", "other items have")} the same semantic ID.`));
}

function levelOf(node, n, item) {
  return h("li.level", {},
    h("a.level-head", { href: link("tree", node.prefix) }, h("span.muted", {}, `Level ${n + 1}`), chips(item.rq_codes.slice(0, n + 1)), h("span.muted", {}, counted(node.items, "item"))),
    h("p.level-words", {}, h("bdi", {}, wordsOf(node))),
    h("div.level-items", { "data-arrows": true }, node.typical.map((one) => h("a.shelf-item", { href: link("item", one.item_id), "aria-current": one.item_id === item.item_id ? "page" : null }, picture(one, "large"), h("span", {}, title(one))))));
}

function neighbors(heading, what, near, side, none) {
  return card(heading, note(what), near.length ? list(near.map((one) => itemLine(one.item, side(one.value))), heading) : none);
}

function history(past) {
  if (past.length < 2) return [table(past), note("There is one release so far. Codes that move show here after the next one.")];
  return table(past);
}

function table(past) {
  const row = (one, n) => {
    const before = past[n + 1];
    const moved = before?.rq_codes && one.rq_codes && String(before.rq_codes) !== String(one.rq_codes);
    return h("tr", {}, h("td", {}, day(one.published_at)), h("td", {}, h("code", {}, one.release)), h("td.number", {}, count(one.codebook_version)),
      h("td", {}, one.rq_codes ? chips(one.rq_codes) : h("span.muted", {}, "not in this release")), h("td", {}, moved ? h("span.badge.warm", {}, "moved") : null));
  };
  const names = ["published", "release", "codebooks", "semantic ID", "since before"];
  return h("div.wide-table", { tabindex: "0", role: "region", "aria-label": "Semantic IDs by release" }, h("table", {}, h("thead", {}, h("tr", {}, names.map((name) => h("th", { scope: "col" }, name)))), h("tbody", {}, past.map(row))));
}
