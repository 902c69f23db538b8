/* Charts of ECharts, which is loaded when the first chart is drawn.
   In: an option of ECharts without its own tooltip. Out: a box with the chart. What it says stands beside it as a list. */
import { h } from "./dom.js";
import { hideTip, showTip } from "./tip.js";

let loading = null;
const drawn = new Set();

/**
 * Return a box in which a chart is drawn as soon as it is on the page.
 *
 * @param {object} chart
 * @param {string} chart.label What the chart shows, for those who do not see it.
 * @param {object} chart.option Option of ECharts.
 * @param {function} chart.tip Nodes for what is under the pointer, or null.
 * @param {function} chart.open Called with what was clicked.
 */
export function chartBox({ label, option, tip, open, className = "" }) {
  const box = h("div.chart", { role: "img", "aria-label": label, class: className });
  const watch = new ResizeObserver(async () => {
    if (!box.clientWidth) return;
    if (box.chart) return box.chart.resize();
    const echarts = await library();
    if (!box.isConnected || box.chart) return;
    box.chart = echarts.init(box, null, { renderer: "canvas" });
    box.chart.setOption({ animationDuration: quiet() ? 0 : 350, ...option });
    box.chart.on("mousemove", (at) => point(at, tip));
    box.chart.on("mouseout", hideTip);
    box.chart.on("click", (at) => open?.(at));
    box.dataset.drawn = "yes";
    drawn.add(box);
  });
  watch.observe(box);
  return box;
}

/** Free the charts that are no longer on the page. */
export function freeCharts() {
  for (const box of drawn) {
    if (box.isConnected) continue;
    box.chart.dispose();
    drawn.delete(box);
  }
  hideTip();
}

function point(at, tip) {
  const nodes = tip?.(at);
  if (nodes) showTip(at.event.event.clientX, at.event.event.clientY, ...nodes);
  else hideTip();
}

function quiet() {
  return matchMedia("(prefers-reduced-motion: reduce)").matches;
}

function library() {
  if (window.echarts) return Promise.resolve(window.echarts);
  loading ??= new Promise((done, failed) => {
    const script = h("script", { src: "page/vendor/echarts.min.js", onload: () => done(window.echarts), onerror: failed });
    document.head.append(script);
  });
  return loading;
}
