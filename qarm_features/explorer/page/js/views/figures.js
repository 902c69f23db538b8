/* Figures of the release with their intervals and their history. In: figures. Out: a page. */
import { named } from "../colors.js";
import { h, svg } from "../dom.js";
import { card, empty, note, pageHead } from "../parts.js";
import { ask } from "../source.js";
import { value } from "../text.js";

const GROUPS = { codes: "Codes", neighbors: "Neighbors", ranking: "Ranking" };
const EMPTY = {
  codes: ["The quality of the codes was not measured.", "qarm report"],
  neighbors: ["The neighbors were not measured.", "qarm evaluate-codes"],
  ranking: ["No ranking model was trained on these codes.", "qarm train-ranking-model"],
};
const WIDTH = 260;
const HEIGHT = 34;
const SIDE = 8;

export async function figuresView() {
  const figures = await ask("figures");
  const known = Object.keys(GROUPS).concat(figures.map((one) => one.group).filter((name) => !(name in GROUPS)));
  const group = (name) => {
    const rows = figures.filter((one) => one.group === name);
    return card(GROUPS[name] ?? name, rows.length ? h("ul.figures", {}, rows.map((one) => figure(one, rows))) : empty(...(EMPTY[name] ?? ["Nothing was measured."])));
  };
  return [
    pageHead("Figures", h("p.lead", {}, "A bar around a value is its interval of 95%, by resampled users. Small dots are earlier releases, the oldest first.")),
    [...new Set(known)].map(group),
    note("▲ means that higher is better, ▼ that lower is better. Figures of the same measure share a scale. A value alone stands between 0 and 1. The dashed line of a difference is no difference. Intervals of AUCs do not contain how far another seed would move them."),
  ];
}

function figure(one, group) {
  const interval = one.low === null ? "" : ` (${value(one.low)} to ${value(one.high)})`;
  const before = one.history.at(-1);
  const change = before ? one.value - before[1] : 0;
  const better = one.higher_is_better === null || change === 0 ? "" : (change > 0) === one.higher_is_better ? "good" : "warm";
  return h("li.figure", {},
    h("span.figure-name", {}, one.name, one.higher_is_better === null ? null : h("span.muted", { "aria-label": one.higher_is_better ? "higher is better" : "lower is better" }, one.higher_is_better ? " ▲" : " ▼")),
    h("span.figure-value", {}, h("b", {}, value(one.value)), h("span.muted", {}, interval)),
    whisker(one, group),
    h("span.figure-before", {}, before ? [h("span.muted", {}, `${before[0]}: ${value(before[1])}`), " ", h("span.badge", { class: better }, `${change >= 0 ? "+" : "−"}${value(Math.abs(change))}`)] : h("span.muted", {}, "no earlier release")));
}

/** Return the numbers that a figure shows. */
function numbers(one) {
  return [one.value, one.low ?? one.value, one.high ?? one.value, ...one.history.map(([, past]) => past)];
}

/** Return true for the difference of two variants of the ranking model. */
function isDifference(figure) {
  return figure.name.includes(" minus ");
}

/** Return the scale of a figure, which figures of the same measure share: "AUC, item IDs" is one of "AUC". A difference has one of its own. */
function scaleOf(one, group) {
  const measure = (figure) => `${isDifference(figure)} ${figure.name.split(",")[0]}`;
  const all = group.filter((other) => measure(other) === measure(one)).flatMap(numbers).concat(isDifference(one) ? [0] : []);
  const alone = Math.min(...all) === Math.max(...all);
  const low = alone ? Math.min(0, ...all) : Math.min(...all);
  const high = alone ? Math.max(1, ...all) : Math.max(...all);
  const room = alone ? 0 : (high - low) * 0.1;
  return (number) => SIDE + ((number - low + room) / (high - low + 2 * room)) * (WIDTH - 2 * SIDE);
}

function whisker(one, group) {
  const x = scaleOf(one, group);
  const middle = HEIGHT / 2;
  const line = (x1, x2, y1 = middle, y2 = middle) => svg("line", { x1, x2, y1, y2, stroke: named("accent"), "stroke-width": 2, "stroke-linecap": "round" });
  const past = one.history.map(([name, number], n) => svg("circle", { cx: x(number), cy: middle, r: 3, fill: named("muted"), opacity: 0.35 + (0.5 * (n + 1)) / one.history.length }, svg("title", {}, `${name}: ${value(number)}`)));
  const bar = one.low === null ? [] : [line(x(one.low), x(one.high)), line(x(one.low), x(one.low), middle - 6, middle + 6), line(x(one.high), x(one.high), middle - 6, middle + 6)];
  const zero = isDifference(one) ? [svg("line", { x1: x(0), x2: x(0), y1: 4, y2: HEIGHT - 4, stroke: named("muted"), "stroke-dasharray": "3 3" }, svg("title", {}, "no difference"))] : [];
  const said = `${value(one.value)}${one.low === null ? "" : `, from ${value(one.low)} to ${value(one.high)}`}`;
  return svg("svg.whisker", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": said },
    svg("line", { x1: 0, x2: WIDTH, y1: middle, y2: middle, stroke: named("line") }), zero, past, bar, svg("circle", { cx: x(one.value), cy: middle, r: 5, fill: named("accent") }));
}
