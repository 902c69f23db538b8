/* Moves: where the items of the release before are now. In: the comparison of two releases. Out: a page. */
import { chartBox } from "../charts.js";
import { codeColor, named } from "../colors.js";
import { h } from "../dom.js";
import { card, chips, empty, note, pageHead, sampleNote, tile } from "../parts.js";
import { go, link } from "../route.js";
import { ask } from "../source.js";
import { codesOf, count, counted, percent } from "../text.js";

const FLOWS = 14; // prefixes that the chart shows

export async function movesView() {
  const [moves, sampled] = await Promise.all([ask("moves"), sampleNote()]);
  if (moves.before === null) {
    return [pageHead("Moves"), empty(`${moves.now} is the first release, so nothing has moved yet. After a refit and the next build, this page shows which items changed their codes:`, "qarm fit-codebooks")];
  }
  const share = moves.items_in_both ? moves.kept / moves.items_in_both : 1;
  return [
    pageHead("Moves", h("p.lead", {}, "From ", h("code", {}, moves.before), " to ", h("code", {}, moves.now), "."), sampled),
    h("div.tiles", {},
      tile("kept their semantic ID", percent(share), `${count(moves.kept)} of ${count(moves.items_in_both)}`),
      tile("new items", count(moves.new_items)), tile("items that left", count(moves.gone_items))),
    card("Where the items of level 1 went", flows(moves), note(`Left is ${moves.before}, right is ${moves.now}. The ${FLOWS} prefixes with most moved items are drawn.`)),
    card("Every prefix of level 1", table(moves)),
  ];
}

function flows(moves) {
  const branches = moves.branches.slice(0, FLOWS);
  const targets = new Set(branches.flatMap((one) => one.to.map(([prefix]) => prefix)));
  const data = [
    ...branches.map((one) => ({ name: `before ${one.prefix}`, code: one.prefix, depth: 0, itemStyle: { color: codeColor(codesOf(one.prefix)[0]) } })),
    ...[...targets].map((prefix) => ({ name: `now ${prefix}`, code: prefix, depth: 1, itemStyle: { color: codeColor(codesOf(prefix)[0]) } })),
  ];
  const links = branches.flatMap((one) => one.to.map(([prefix, items]) => ({ source: `before ${one.prefix}`, target: `now ${prefix}`, value: items, from: one.prefix, to: prefix })));
  return chartBox({
    label: `Flows of items between prefixes of level 1 of two releases. The table below says the same.`,
    className: "tall",
    option: { series: [{
      type: "sankey", data, links, left: 34, right: 40, top: 6, bottom: 6, nodeGap: 5, nodeWidth: 14, draggable: false, layoutIterations: 24,
      lineStyle: { color: "source", opacity: 0.3, curveness: 0.5 }, emphasis: { focus: "adjacency" },
      label: { color: named("ink"), formatter: ({ data: one }) => one.code, fontSize: 11 },
      levels: [{ depth: 0, label: { position: "left" } }, { depth: 1, label: { position: "right" } }],
    }] },
    tip: ({ data: one }) => one && [h("p", {}, one.from === undefined ? `Prefix ${one.code}` : `${counted(one.value, "item")} of ${one.from} ${one.value === 1 ? "is" : "are"} in ${one.to} now`)],
    open: ({ data: one }) => one?.code !== undefined && go("tree", one.code),
  });
}

function table(moves) {
  const row = (one) => h("tr", {},
    h("td", {}, chips(codesOf(one.prefix))), h("td.number", {}, count(one.items)), h("td.number", {}, percent(one.kept)), h("td.number", {}, percent(one.kept_first)),
    h("td", {}, one.to.map(([prefix, items]) => h("a.to", { href: link("tree", prefix) }, chips(codesOf(prefix)), count(items)))));
  const names = [["before", ""], ["items", "number"], ["kept the whole ID", "number"], ["kept the first code", "number"], ["are now in", ""]];
  return h("div.wide-table", { tabindex: "0", role: "region", "aria-label": "Moves by prefix" },
    h("table", {}, h("thead", {}, h("tr", {}, names.map(([name, kind]) => h("th", { scope: "col", class: kind }, name)))), h("tbody", {}, moves.branches.map(row))));
}
