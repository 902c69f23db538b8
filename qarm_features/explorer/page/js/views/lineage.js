/* Lineage: what the release was made of, from left to right. In: nodes and what each was made of. Out: a page. */
import { named } from "../colors.js";
import { h, svg } from "../dom.js";
import { empty, note, pageHead } from "../parts.js";
import { ask } from "../source.js";
import { moment } from "../text.js";

const KINDS = { source: "Sources", table: "Tables", artifact: "Artifacts", release: "Release" };

export async function lineageView() {
  const nodes = await ask("lineage");
  if (!nodes.length) return [pageHead("Lineage"), empty("The explorer knows no lineage. Build it again:", "qarm build-explorer")];
  return [
    pageHead("Lineage", h("p.lead", {}, "From the sources on the left to the release, and to what was trained on it. Each box names the version that was read.")),
    h("div.legend", {}, Object.entries(KINDS).map(([kind, text]) => h("span.kind", { "data-kind": kind }, text))),
    graph(nodes),
    note("On a small screen the graph scrolls sideways. Choose a box to see what it was made of."),
  ];
}

function graph(nodes) {
  const columns = columnsOf(nodes);
  const boxes = new Map();
  const detail = h("section.card.detail", { "aria-live": "polite" });
  const choose = (node) => {
    for (const [name, box] of boxes) {
      box.classList.toggle("chosen", name === node.name);
      box.setAttribute("aria-pressed", String(name === node.name));
    }
    detail.replaceChildren(...about(node, nodes));
    draw();
  };
  const box = (node) => {
    const made = h("button.node", { type: "button", "data-kind": node.kind, onclick: () => choose(node) },
      h("bdi.node-name", {}, breakable(node.name)), h("span.muted", {}, node.version === null ? KINDS[node.kind] : `version ${node.version}`));
    boxes.set(node.name, made);
    return made;
  };
  const lines = svg("svg.edges", { "aria-hidden": "true" });
  const field = h("div.field", {}, lines, columns.map((column) => h("div.column", { "data-arrows": true }, column.map(box))));
  const draw = () => drawEdges(lines, field, nodes, boxes);
  new ResizeObserver(draw).observe(field);
  queueMicrotask(() => choose(nodes.find((node) => node.kind === "release") ?? nodes.at(-1)));
  return [h("div.wide-table.card", { tabindex: "0", role: "region", "aria-label": "Graph of the lineage" }, field), detail];
}

/** Return a name that may break after the marks in it. */
function breakable(name) {
  return name.split(/(?<=[_./-])/).flatMap((part, n) => (n ? [h("wbr"), part] : [part]));
}

/** Return the nodes by the length of the longest way to them, each column in the order of what it was made of. */
function columnsOf(nodes) {
  const byName = new Map(nodes.map((node) => [node.name, node]));
  const depths = new Map();
  const depth = (node) => {
    if (!depths.has(node.name)) {
      depths.set(node.name, 0); // ends a circle, which no lineage should have
      depths.set(node.name, Math.max(-1, ...node.made_of.filter((name) => byName.has(name)).map((name) => depth(byName.get(name)))) + 1);
    }
    return depths.get(node.name);
  };
  const columns = [];
  for (const node of nodes) (columns[depth(node)] ??= []).push(node);
  const rows = new Map();
  for (const column of columns) {
    const middle = (node) => node.made_of.reduce((sum, name) => sum + (rows.get(name) ?? 0), 0) / (node.made_of.length || 1);
    column.sort((a, b) => middle(a) - middle(b));
    column.forEach((node, row) => rows.set(node.name, row - (column.length - 1) / 2));
  }
  return columns;
}

function drawEdges(lines, field, nodes, boxes) {
  const origin = field.getBoundingClientRect();
  const chosen = nodes.find((node) => boxes.get(node.name)?.classList.contains("chosen"));
  const paths = nodes.flatMap((node) => node.made_of.filter((name) => boxes.has(name)).map((name) => {
    const from = boxes.get(name).getBoundingClientRect();
    const to = boxes.get(node.name).getBoundingClientRect();
    const [x1, y1] = [from.right - origin.left, from.top + from.height / 2 - origin.top];
    const [x2, y2] = [to.left - origin.left, to.top + to.height / 2 - origin.top];
    const bend = Math.max(18, (x2 - x1) / 2);
    const near = node === chosen || name === chosen?.name;
    return svg("path", { d: `M${x1} ${y1} C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2} ${y2}`, fill: "none", stroke: named(near ? "accent" : "edge"), "stroke-width": near ? 2.5 : 1.5 });
  }));
  lines.replaceChildren(...paths);
}

function about(node, nodes) {
  const uses = nodes.filter((one) => one.made_of.includes(node.name)).map((one) => one.name);
  const facts = [
    ["made of", node.made_of.join(", ") || "nothing in this project"], ["used by", uses.join(", ") || "readers of the feature store"],
    ["version", node.version ?? "it has none"], ["made at", moment(node.made_at)], ...Object.entries(node.details),
  ];
  return [h("h2", {}, h("bdi", {}, node.name)), h("dl.facts-list", {}, facts.map(([name, text]) => [h("dt", {}, name), h("dd", {}, h("bdi", {}, String(text)))]))];
}
