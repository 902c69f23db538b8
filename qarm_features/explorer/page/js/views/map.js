/* Map: items as points, near where their embeddings are near. In: the points. Out: a page. */
import { chartBox } from "../charts.js";
import { named, pointColor } from "../colors.js";
import { h } from "../dom.js";
import { card, chips, choice, empty, list, note, pageHead, wordsOf } from "../parts.js";
import { go, link } from "../route.js";
import { ask } from "../source.js";
import { codesOf, count, counted } from "../text.js";

const GROUPS = 60; // codes of the list
const PREFIXES = 250; // whose words are asked for

export async function mapView({ options }) {
  const [points, summary, top] = await Promise.all([ask("map"), ask("summary"), ask("tree", null, { prefix: "", limit: PREFIXES })]);
  const total = points.item_id.length;
  if (!total) return [pageHead("Map"), empty("The explorer has no map. Build it again with one:", "qarm build-explorer")];
  const level = Math.min(Number(options.level) || 1, summary.num_levels);
  const marked = codesOf(options.prefix ?? "").every(Number.isInteger) ? (options.prefix ?? "") : "";
  const change = (next) => go("map", "", { ...options, ...next });
  const levels = Array.from({ length: summary.num_levels }, (_, n) => [n + 1, `Level ${n + 1}`]);
  const lit = points.rq_codes.filter((codes) => isBelow(codes, marked)).length;
  return [
    pageHead("Map of items", h("p.lead", {}, points.method),
      points.sampled ? h("p.sample", {}, `This is a sample: the map shows ${count(total)} of ${counted(summary.items, "item")}.`) : null),
    h("div.split", {},
      card(null,
        h("div.toolbar", {}, choice("Colors by the code of", levels, level, (key) => change({ level: key === 1 ? "" : key })), prefixField(marked, change)),
        scatter(points, level, marked, options.item),
        note(marked ? `${counted(lit, "item")} below the prefix ${marked} ${lit === 1 ? "is" : "are"} highlighted. ` : "", "Scroll or pinch to zoom, drag to move. A click opens the item.")),
      h("section.card.scroll", {}, h("h2", {}, "Codes of level 1"), note("Choose one to highlight its items."), families(points, marked, options, top))),
    marked ? card(`Highlighted items`, highlighted(points, marked)) : null,
  ];
}

function prefixField(marked, change) {
  const input = h("input", { type: "text", inputmode: "decimal", value: marked, placeholder: "12.3", "aria-label": "Prefix to highlight", size: 8, pattern: "[0-9]+(\\.[0-9]+)*" });
  const set = (event) => {
    event.preventDefault();
    if (input.checkValidity()) change({ prefix: input.value.trim(), item: "" });
  };
  return h("form.inline", { onsubmit: set }, h("label", {}, "Highlight prefix ", input), h("button.button", { type: "submit" }, "Show"), marked ? h("button.button", { type: "button", onclick: () => change({ prefix: "", item: "" }) }, "All") : null);
}

function isBelow(codes, prefix) {
  return codesOf(prefix).every((code, n) => codes[n] === code);
}

function scatter(points, level, marked, itemId) {
  const groups = new Map();
  const dim = [];
  for (let n = 0; n < points.x.length; n++) {
    const place = [points.x[n], points.y[n], n];
    if (!isBelow(points.rq_codes[n], marked)) dim.push(place);
    else {
      const code = points.rq_codes[n][level - 1];
      if (!groups.has(code)) groups.set(code, []);
      groups.get(code).push(place);
    }
  }
  const size = points.x.length > 20000 ? 3 : points.x.length > 4000 ? 5 : 7;
  const layer = (data, color, opacity, z) => ({ type: "scatter", data, symbolSize: size, large: data.length > 3000, itemStyle: { color, opacity }, z, animation: false, emphasis: { scale: 1.8 } });
  const series = [...(dim.length ? [layer(dim, named("muted"), 0.18, 1)] : []), ...[...groups].map(([code, data]) => layer(data, pointColor(code), 0.85, 2))];
  const at = points.item_id.indexOf(itemId);
  if (at >= 0) series.push({ type: "effectScatter", data: [[points.x[at], points.y[at], at]], symbolSize: 12, itemStyle: { color: named("accent") }, z: 3 });
  const axis = { type: "value", scale: true, show: false };
  const zoom = (name) => ({ type: "inside", [name]: 0, filterMode: "none", zoomOnMouseWheel: true });
  return chartBox({
    label: `A map of ${counted(points.x.length, "item")}, colored by the code of level ${level}. The list beside it gives the codes.`,
    className: "map",
    option: { grid: { left: 8, right: 8, top: 8, bottom: 8 }, xAxis: axis, yAxis: axis, dataZoom: [zoom("xAxisIndex"), zoom("yAxisIndex")], series },
    tip: ({ data }) => Array.isArray(data) && [h("p.tip-item", {}, h("bdi", { dir: "auto" }, points.title[data[2]] || points.item_id[data[2]])), chips(points.rq_codes[data[2]])],
    open: ({ data }) => Array.isArray(data) && go("item", points.item_id[data[2]]),
  });
}

function families(points, marked, options, top) {
  const words = new Map(top.children.map((node) => [Number(node.prefix), wordsOf(node)]));
  const sizes = new Map();
  for (const [code] of points.rq_codes) sizes.set(code, (sizes.get(code) ?? 0) + 1);
  const largest = [...sizes].sort((a, b) => b[1] - a[1]);
  const line = ([code, items]) => h("a.line", { href: link("map", "", { ...options, prefix: String(code), item: "" }), "aria-current": String(code) === marked ? "true" : null },
    chips([code]), h("span.line-text", {}, h("span.line-title", {}, words.get(code) ?? "")), h("span.line-side", {}, count(items)));
  return [list(largest.slice(0, GROUPS).map(line), "Codes of level 1, the most frequent first"), largest.length > GROUPS ? note(`${count(largest.length - GROUPS)} more codes have fewer items.`) : null];
}

function highlighted(points, marked) {
  const rows = points.rq_codes.flatMap((codes, n) => (isBelow(codes, marked) ? [n] : [])).slice(0, 24);
  const line = (n) => h("a.line", { href: link("item", points.item_id[n]) },
    h("span.line-text", {}, h("span.line-title", {}, h("bdi", { dir: "auto" }, points.title[n] || points.item_id[n])), chips(points.rq_codes[n])));
  if (!rows.length) return empty(`No item of the map is below the prefix ${marked}.`);
  return [h("div.columns", {}, list(rows.map(line), "Highlighted items")), note(h("a", { href: link("tree", marked) }, `See all items of ${marked} in the tree.`))];
}
