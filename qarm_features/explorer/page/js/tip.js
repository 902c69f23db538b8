/* The box that follows the pointer over a chart. In: a place of the window and nodes. Out: a box beside it. */
import { replace } from "./dom.js";

const GAP = 14; // pixels

/** Show nodes beside a point of the window. */
export function showTip(x, y, ...children) {
  const tip = document.getElementById("tip");
  replace(tip, ...children);
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  const left = x + GAP + box.width > innerWidth ? x - GAP - box.width : x + GAP;
  const top = y + GAP + box.height > innerHeight ? y - GAP - box.height : y + GAP;
  tip.style.transform = `translate(${Math.max(4, left)}px, ${Math.max(4, top)}px)`;
}

/** Hide the box. */
export function hideTip() {
  document.getElementById("tip").hidden = true;
}
