/* The search box, which finds items, users and prefixes. In: what is typed. Out: links below it. "/" gets there. */
import { h, replace } from "./dom.js";
import { icon } from "./icons.js";
import { itemLine, prefixLine } from "./parts.js";
import { link } from "./route.js";
import { ask } from "./source.js";

const PAUSE = 140; // milliseconds without a key before it asks

/** Build the search box inside an element. */
export function startSearch(place) {
  const input = h("input", {
    type: "search", placeholder: "Title, item ID, user, prefix 12.3", "aria-label": "Search items, users and prefixes",
    role: "combobox", "aria-expanded": "false", "aria-controls": "found", autocomplete: "off", spellcheck: "false", maxlength: 200,
  });
  const found = h("div.found", { id: "found", hidden: true, "data-arrows": true });
  replace(place, icon("search"), input, h("kbd", { "aria-hidden": "true" }, "/"), found);
  let timer = 0;
  let asked = 0;

  const close = () => {
    found.hidden = true;
    input.setAttribute("aria-expanded", "false");
  };
  const look = async () => {
    const query = input.value.trim();
    const number = ++asked;
    if (!query) return close();
    const lines = await results(query);
    if (number !== asked) return;
    replace(found, lines);
    found.hidden = false;
    input.setAttribute("aria-expanded", "true");
  };
  input.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(look, PAUSE);
  });
  input.addEventListener("focus", () => { if (input.value.trim() && found.hidden) look(); });
  input.addEventListener("keydown", async (event) => {
    if (event.key === "Enter") {
      clearTimeout(timer);
      await look();
      found.querySelector("a")?.click();
    }
    if (event.key === "ArrowDown") {
      event.preventDefault();
      event.stopPropagation();
      found.querySelector("a")?.focus();
    }
  });
  place.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    event.stopPropagation();
    if (found.hidden) input.blur();
    else { close(); input.focus(); }
  });
  place.addEventListener("focusout", (event) => { if (event.relatedTarget && !place.contains(event.relatedTarget)) close(); });
  document.addEventListener("click", (event) => { if (!place.contains(event.target)) close(); });
  found.addEventListener("click", (event) => {
    if (!event.target.closest("a")) return;
    close();
    input.value = "";
  });
  return { focus: () => { input.focus(); input.select(); } };
}

async function results(query) {
  let answer;
  try {
    answer = await ask("search", null, { q: query });
  } catch (problem) {
    return [h("p.found-none", {}, problem.message)];
  }
  const user = (id) => h("a.line", { href: link("user", id) }, icon("users"), h("span.line-text", {}, h("bdi", {}, `User ${id}`)));
  const groups = [
    ["Prefixes", answer.prefixes.map((node) => prefixLine(node))],
    ["Items", answer.items.map((item) => itemLine(item))],
    ["Users", answer.users.map(user)],
  ].filter(([, lines]) => lines.length);
  if (!groups.length) return [h("p.found-none", {}, `Nothing has "${query}" in its title or ID.`)];
  return groups.map(([name, lines]) => h("div", { role: "group", "aria-label": name }, h("p.found-name", {}, name), lines));
}
