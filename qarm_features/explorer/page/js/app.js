/* The explorer's pages: shows the one that the address names. In: the hash. Out: the page inside <main>. */
import { freeCharts } from "./charts.js";
import { h, replace } from "./dom.js";
import { icon } from "./icons.js";
import { startKeys } from "./keys.js";
import { empty, pageHead } from "./parts.js";
import { link, placeOf } from "./route.js";
import { startSearch } from "./search_box.js";
import { ask } from "./source.js";
import { day } from "./text.js";
import { startTheme } from "./theme.js";
import { collisionsView } from "./views/collisions.js";
import { figuresView } from "./views/figures.js";
import { itemView } from "./views/item.js";
import { lineageView } from "./views/lineage.js";
import { mapView } from "./views/map.js";
import { movesView } from "./views/moves.js";
import { overviewView } from "./views/overview.js";
import { treeView } from "./views/tree.js";
import { userView, usersView } from "./views/user.js";

const VIEWS = {
  overview: overviewView, tree: treeView, map: mapView, users: usersView, collisions: collisionsView, moves: movesView,
  figures: figuresView, lineage: lineageView, item: itemView, user: userView,
};
const PAGES = [
  ["overview", "Overview"], ["tree", "Tree"], ["map", "Map"], ["users", "Users"], ["collisions", "Collisions"],
  ["moves", "Moves"], ["figures", "Figures"], ["lineage", "Lineage"],
];
const ABOVE = { item: "tree", user: "users" }; // the page of the navigation that another page belongs to

let shown = 0;

async function show() {
  const main = document.getElementById("main");
  const number = ++shown;
  const place = placeOf(location.hash);
  mark(ABOVE[place.view] ?? place.view);
  const slow = setTimeout(() => main.classList.add("waiting"), 150);
  let page;
  try {
    const view = VIEWS[place.view];
    page = view ? await view(place) : [pageHead("No such page"), empty("The address names no page of the explorer.")];
  } catch (problem) {
    page = [pageHead("Nothing to show"), empty(problem.message)];
  }
  clearTimeout(slow);
  if (number !== shown) return; // another page was asked for meanwhile
  main.classList.remove("waiting");
  main.dataset.view = place.view;
  replace(main, page);
  freeCharts();
  main.dataset.shown = location.hash || "#/";
  const heading = main.querySelector("h1");
  document.title = `${heading.textContent} · Semantic IDs`;
  if (number > 1 && !document.activeElement?.matches("input")) heading.focus({ preventScroll: true });
}

/** Return the place above one: the prefix above a prefix, the prefix of an item, or the overview. */
function up(place) {
  if (place.view === "tree" && place.id !== "") return link("tree", place.id.split(".").slice(0, -1).join("."), place.options);
  if (place.view === "item") return document.querySelector("#main [data-up]")?.getAttribute("href") ?? link("tree");
  if (place.view === "user") return link("users");
  return place.view === "overview" ? null : "#/";
}

function mark(view) {
  for (const one of document.querySelectorAll("#nav a")) {
    if (one.dataset.view === view) one.setAttribute("aria-current", "page");
    else one.removeAttribute("aria-current");
  }
  document.querySelector("#nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
}

async function startNav() {
  const nav = document.getElementById("nav");
  const page = ([view, text]) => h("a", { href: view === "overview" ? "#/" : link(view), "data-view": view }, icon(view), h("span", {}, text));
  replace(nav, h("div.nav-pages", { "data-arrows": true }, PAGES.map(page)));
  const summary = await ask("summary").catch(() => null);
  if (!summary) return;
  nav.append(h("p.nav-release", {}, h("bdi", {}, summary.project), h("br"), `Codebook version ${summary.codebook_version}`, h("br"), `Data of ${day(summary.made_at)}`));
}

startNav();
startTheme(document.getElementById("theme"), show);
startKeys({ search: startSearch(document.getElementById("search")), up });
addEventListener("hashchange", () => { scrollTo(0, 0); show(); });
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // the hash names a page
  document.getElementById("main").focus();
});
show();
