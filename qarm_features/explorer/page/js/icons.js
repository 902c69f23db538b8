/* Line icons. In: a name. Out: an element of SVG that screen readers pass over. */
import { svg } from "./dom.js";

const LINES = {
  overview: ["M4 5h7v6H4z", "M13 5h7v10h-7z", "M4 13h7v6H4z", "M13 17h7v2h-7z"],
  tree: ["M4 4h16v16H4z", "M12 4v16", "M12 11h8", "M4 14h8"],
  map: ["M6 8h.01", "M10 14h.01", "M8 11h.01", "M16 7h.01", "M18 10h.01", "M15 17h.01", "M18 16h.01", "M6 18h.01", "M13 11h.01"],
  users: ["M12 12a4 4 0 1 0 0-8 4 4 0 0 0 0 8z", "M5 20c.6-3.6 3.4-5.5 7-5.500s6.4 1.9 7 5.5"],
  collisions: ["M9 15a5 5 0 1 1 0-7", "M15 9a5 5 0 1 1 0 7", "M9 12h6"],
  moves: ["M4 7h11c4 0 5 3 5 5s-1 5-5 5H8", "M11 14l-3 3 3 3"],
  figures: ["M5 19V9", "M3 9h4", "M3 19h4", "M12 16V5", "M10 5h4", "M10 16h4", "M19 20v-8", "M17 12h4", "M17 20h4"],
  lineage: ["M4 5h5v4H4z", "M4 15h5v4H4z", "M15 10h5v4h-5z", "M9 7h3l0 5h3", "M9 17h3v-5"],
  search: ["M11 17a6 6 0 1 0 0-12 6 6 0 0 0 0 12z", "M15.5 15.5 20 20"],
  sun: ["M12 16a4 4 0 1 0 0-8 4 4 0 0 0 0 8z", "M12 3v2", "M12 19v2", "M3 12h2", "M19 12h2", "M5.6 5.6 7 7", "M17 17l1.4 1.4", "M18.4 5.6 17 7", "M7 17l-1.4 1.4"],
  moon: ["M20 14.500A8 8 0 1 1 9.5 4a6.5 6.5 0 0 0 10.5 10.500z"],
  up: ["M12 19V6", "M6 11l6-6 6 6"],
  dice: ["M5 5h14v14H5z", "M9 9h.01", "M15 9h.01", "M12 12h.01", "M9 15h.01", "M15 15h.01"],
};

/** Return an icon. */
export function icon(name) {
  const paths = LINES[name].map((d) => svg("path", { d }));
  return svg("svg.icon", { viewBox: "0 0 24 24", "aria-hidden": "true", focusable: "false" }, paths);
}
