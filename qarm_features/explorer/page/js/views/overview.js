/* Overview: what is explored, in numbers. In: the summary and the top of the tree. Out: a page. */
import { h } from "../dom.js";
import { icon } from "../icons.js";
import { card, chips, empty, list, note, pageHead, picture, sampleNote, tile, wordsOf } from "../parts.js";
import { go, link } from "../route.js";
import { ask } from "../source.js";
import { codesOf, count, counted, moment, percent } from "../text.js";

const LARGEST = 12; // prefixes of level 1

export async function overviewView() {
  const [summary, tree, sampled] = await Promise.all([ask("summary"), ask("tree", null, { prefix: "", limit: LARGEST }), sampleNote()]);
  const surprise = h("button.button", { type: "button", onclick: () => openAny(summary) }, icon("dice"), "Open any item");
  return [
    pageHead(h("bdi", {}, summary.project), h("p.lead", {}, release(summary)), sampled, h("div.buttons", {}, h("a.button.primary", { href: link("tree") }, icon("tree"), "Walk through the tree"), surprise)),
    tiles(summary),
    card("Largest prefixes of level 1",
      h("div.families", { "data-arrows": true }, tree.children.map(family)),
      tree.left_out ? note(`${counted(tree.left_out, "more prefix", "more prefixes")} with ${counted(tree.left_out_items, "item")}. `, h("a", { href: link("tree") }, "See all in the tree.")) : null),
    h("div.two", {}, card("Use of the levels", levels(summary), note("A centroid without items is not used. Many of these mean that the codebook is larger than the catalog needs.")), card("Rejected rows", rejected(summary))),
    h("div.two", {}, card("Releases", list(summary.releases.map((name, n) => h("div.line", {}, h("span.line-text", {}, h("code", {}, name)), n === 0 ? h("span.badge", {}, "latest") : null)), "Releases, the latest first")), card("Keys", keys())),
  ];
}

function release(summary) {
  return `Release ${summary.release}, published ${moment(summary.published_at)}: ${summary.num_levels} levels of ${summary.codebook_sizes.join(", ")} centroids, encoder version ${summary.encoder_version}. This data was made ${moment(summary.made_at)}.`;
}

function tiles(summary) {
  const share = summary.items ? summary.colliding_items / summary.items : 0;
  return h("div.tiles", {},
    tile("items", count(summary.items), null, link("tree")),
    tile("distinct semantic IDs", count(summary.distinct_ids)),
    tile("items share their ID", percent(share), counted(summary.colliding_items, "item"), link("collisions")),
    tile("users with a page", count(summary.users), null, link("users")),
    tile(summary.releases.length === 1 ? "release" : "releases", count(summary.releases.length), null, link("moves")));
}

function family(node) {
  return h("a.family", { href: link("tree", node.prefix) },
    h("span.family-pictures", {}, node.typical.slice(0, 3).map((item) => picture(item))),
    h("span.family-head", {}, chips(codesOf(node.prefix)), h("span.muted", {}, counted(node.items, "item"))),
    h("span.family-words", {}, wordsOf(node)));
}

function levels(summary) {
  const row = ([used, all], n) => h("li.bar-row", {},
    h("span", {}, `Level ${n + 1}`),
    h("span.bar", { role: "img", "aria-label": `${used} of ${all} centroids are used` }, h("i", { style: { width: `${(100 * used) / all}%` } })),
    h("span.number", {}, `${count(used)} of ${count(all)}`));
  return h("ul.bars", {}, summary.level_uses.map(row));
}

function rejected(summary) {
  if (!summary.rejected.length) return empty("No row of the catalog or the log was rejected.");
  const most = Math.max(...summary.rejected.map(([, , rows]) => rows));
  const row = ([table, reason, rows]) => h("li.bar-row.wide", {},
    h("span", {}, h("code", {}, table), " ", h("bdi", {}, reason)),
    h("span.bar.warm", { "aria-hidden": "true" }, h("i", { style: { width: `${(100 * rows) / most}%` } })),
    h("span.number", {}, count(rows)));
  return h("ul.bars", {}, summary.rejected.map(row));
}

function keys() {
  const one = (key, does) => [h("dt", {}, h("kbd", {}, key)), h("dd", {}, does)];
  return h("dl.keys", {}, one("/", "Search"), one("Esc", "Go up: to the prefix above, or out of a page"), one("↑ ↓", "Walk through a list"), one("Enter", "Open"));
}

async function openAny(summary) {
  const page = await ask("items", null, { prefix: "", offset: Math.floor(Math.random() * summary.shown_items), limit: 1 });
  if (page.items.length) go("item", page.items[0].item_id);
}
