/* Tree: a prefix, what is directly below it by area, and what it means. In: a prefix. Out: a page. */
import { chartBox } from "../charts.js";
import { codeColor, heat, named } from "../colors.js";
import { h } from "../dom.js";
import { icon } from "../icons.js";
import { card, chips, choice, empty, growing, itemLine, note, pageHead, picture, prefixLine, sampleNote, title, wordsOf } from "../parts.js";
import { go, link } from "../route.js";
import { ask, pictureOf } from "../source.js";
import { codesOf, count, counted } from "../text.js";

const CELLS = 250; // prefixes that the chart shows
const PICTURED = 16; // areas with pictures, the largest ones
const LINES = 30; // items of one step of the list

export async function treeView({ id: prefix, options }) {
  const [tree, items, sampled] = await Promise.all([
    ask("tree", null, { prefix, limit: CELLS }), ask("items", null, { prefix, offset: 0, limit: LINES }), sampleNote(),
  ]);
  const by = options.color === "positives" ? "positives" : "code";
  const pictures = await Promise.all(tree.children.slice(0, PICTURED).map(picturesOf));
  const { node } = tree;
  return [
    pageHead(prefix === "" ? "Tree of prefixes" : [`Prefix ${prefix}`, node.words.length ? h("span.head-words", {}, h("bdi", {}, wordsOf(node))) : null], crumbs(prefix, options), sampled),
    h("div.split", {},
      h("div", {}, tree.children.length ? area(tree, by, options, pictures) : leaf(items)),
      h("aside.stack", { "aria-label": "What this prefix means" }, meaning(node), belowAsList(tree))),
    card(`Items below ${prefix === "" ? "the root" : prefix}`, growing({
      label: "Items in the order of their semantic IDs", first: items.items, total: items.total, line: (item) => itemLine(item, counted(item.positives, "positive")),
      more: async (offset) => (await ask("items", null, { prefix, offset, limit: LINES })).items,
    }), note(`${counted(items.total, "item")} in all.`)),
  ];
}

function crumbs(prefix, options) {
  const codes = codesOf(prefix);
  const steps = codes.map((code, n) => codes.slice(0, n + 1).join("."));
  return h("nav.crumbs", { "aria-label": "Prefixes above" },
    h("a", { href: link("tree", "", options), "aria-current": prefix === "" ? "page" : null }, "All items"),
    steps.map((step, n) => [h("span", { "aria-hidden": "true" }, "›"), h("a", { href: link("tree", step, options), "aria-current": step === prefix ? "page" : null }, `level ${n + 1}: ${codes[n]}`)]));
}

function area(tree, by, options, pictures) {
  const { node, children } = tree;
  const rate = (one) => one.positives / Math.max(1, one.items);
  const rates = children.map(rate).sort((a, b) => a - b);
  const [few, many] = [0.05, 0.95].map((share) => rates[Math.floor((rates.length - 1) * share)]);
  const color = (one) => (by === "code" ? codeColor(codesOf(one.prefix).at(-1)) : heat(many > few ? (rate(one) - few) / (many - few) : 0.5));
  const cells = children.map((one, n) => ({
    name: one.prefix, value: one.items, node: one, pictures: pictures[n] ?? [], itemStyle: { color: color(one) }, label: { rich: styles(one.items / node.items, pictures[n] ?? []) },
  }));
  if (tree.left_out) cells.push({ name: "more", value: tree.left_out_items, itemStyle: { color: named("muted") } });
  return card(null,
    h("div.toolbar", {},
      h("h2", {}, `${counted(node.children, "prefix", "prefixes")} of level ${node.level + 1}`),
      choice("Color of the areas", [["code", "Codes"], ["positives", "Positives"]], by, (key) => go("tree", node.prefix, { ...options, color: key === "code" ? "" : key }))),
    chartBox({
      label: `Areas of ${counted(node.children, "prefix", "prefixes")} by their number of items. The list beside it says the same.`,
      className: "tall",
      option: { series: [{
        type: "treemap", data: cells, roam: false, nodeClick: false, breadcrumb: { show: false }, left: 0, right: 0, top: 0, bottom: 0,
        itemStyle: { borderColor: named("surface"), borderWidth: 0, gapWidth: 2, borderRadius: 4 },
        label: { formatter: ({ data }) => labelOf(data, tree), color: "#fff", padding: 8, overflow: "truncate", position: "insideTopLeft" },
        emphasis: { itemStyle: { borderColor: named("ink"), borderWidth: 2 } },
      }] },
      tip: ({ data }) => data?.node && [h("p.tip-head", {}, chips(codesOf(data.node.prefix)), counted(data.node.items, "item")), h("p", {}, wordsOf(data.node)),
        data.node.typical.slice(0, 3).map((item) => h("p.tip-item", {}, picture(item), title(item))), h("p.muted", {}, `${rate(data.node).toFixed(1)} positives for each item`)],
      open: ({ data }) => data?.node && go("tree", data.node.prefix, options),
    }),
    note(by === "code" ? "The area is the number of items. Colors tell codes apart." : "The area is the number of items. The color is the number of positives for each item: blue is few, red is many.",
      tree.left_out ? ` The gray area is ${counted(tree.left_out, "smaller prefix", "smaller prefixes")}.` : ""));
}

function labelOf(data, tree) {
  if (!data.node) return `${count(tree.left_out)} smaller prefixes`;
  const words = data.node.words.slice(0, 3).map((word) => `{word|${word.replace(/[{|}]/g, "")}}`);
  const pictures = data.pictures.map((_, n) => `{picture${n}|}`).join("{gap|}");
  return [`{code|${codesOf(data.node.prefix).at(-1)}}`, ...words, pictures].join("\n");
}

/** Return the addresses of the pictures of a prefix's typical items. */
function picturesOf(node) {
  return Promise.all(node.typical.filter((item) => item.picture).slice(0, 3).map((item) => pictureOf(item)));
}

/** Return the styles of the label in an area. Its type is larger in larger ones, which have a larger share of the items. */
function styles(share, pictures) {
  const size = Math.round(Math.min(20, 9 + 24 * Math.sqrt(share)));
  const side = Math.round(Math.min(52, 18 + 70 * Math.sqrt(share)));
  const image = (src) => ({ width: side, height: side, lineHeight: side + 16, backgroundColor: { image: src } });
  return {
    word: { fontSize: size, lineHeight: size * 1.35, fontWeight: 600, color: "#fff" },
    code: { fontSize: 11, lineHeight: 20, color: "#fff", backgroundColor: "rgba(0,0,0,.22)", borderRadius: 5, padding: [1, 6] },
    gap: { width: 6 },
    ...Object.fromEntries(pictures.map((src, n) => [`picture${n}`, image(src)])),
  };
}

function leaf(items) {
  const one = (item) => h("a.shelf-item", { href: link("item", item.item_id) }, picture(item, "large"), h("span", {}, title(item)));
  return card("Items with this semantic ID", h("div.shelf", { "data-arrows": true }, items.items.slice(0, 24).map(one)),
    items.total > 1 ? note(`${counted(items.total, "item")} share this semantic ID.`) : null);
}

function meaning(node) {
  const typical = node.typical.map((item) => h("a.shelf-item", { href: link("item", item.item_id) }, picture(item, "large"), h("span", {}, title(item))));
  return card("What it means",
    node.prefix === "" ? h("p", {}, "Choose an area. Items below one prefix have similar content.") : h("p.words", {}, node.words.length ? node.words.map((word) => h("bdi.word", {}, word)) : "No word stands out."),
    h("p.facts", {}, h("b", {}, count(node.items)), node.items === 1 ? " item, " : " items, ", h("b", {}, count(node.positives)), " positives"),
    typical.length ? [h("h3", {}, node.prefix === "" ? "Items near the middle of the catalog" : "Typical items"), h("div.shelf.small", { "data-arrows": true }, typical)] : empty("It has no typical items."),
    node.prefix === "" ? null : h("p.buttons", {}, h("a.button", { href: link("tree", codesOf(node.prefix).slice(0, -1).join(".")) }, icon("up"), "Up"), h("a.button", { href: link("map", "", { prefix: node.prefix }) }, icon("map"), "Show on the map")));
}

function belowAsList(tree) {
  if (!tree.children.length) return null;
  return h("section.card.scroll", {}, h("h2", {}, "Prefixes, the largest first"),
    h("ul.list", { "aria-label": "Prefixes below", "data-arrows": true }, tree.children.map((one) => h("li", {}, prefixLine(one, count(one.items))))));
}
