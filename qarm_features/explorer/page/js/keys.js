/* Keys: "/" searches, Escape goes up, arrows walk through lists. In: key presses. Out: focus and place. */
import { placeOf } from "./route.js";

/** Listen to keys. `up` gives the hash of the place above the current one. */
export function startKeys({ search, up }) {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const typing = event.target.matches("input, textarea, select");
    if (event.key === "/" && !typing) {
      event.preventDefault();
      search.focus();
    } else if (event.key === "Escape" && !typing) {
      const above = up(placeOf(location.hash));
      if (above !== null) location.hash = above;
    } else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      walk(event);
    }
  });
}

function walk(event) {
  const lines = event.target.closest("[data-arrows]");
  if (!lines || event.target.matches("input, select")) return;
  const stops = [...lines.querySelectorAll("a, button")].filter((one) => one.offsetParent !== null);
  const next = stops.indexOf(event.target) + (event.key === "ArrowDown" ? 1 : -1);
  event.preventDefault();
  if (next >= 0 && next < stops.length) stops[next].focus();
  else if (next < 0) lines.parentElement.querySelector("input")?.focus();
}
