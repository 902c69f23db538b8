/* Users: what a user liked, and which items a ranking model would show and why. In: a user ID. Out: a page. */
import { h } from "../dom.js";
import { icon } from "../icons.js";
import { card, chips, empty, growing, itemLine, note, pageHead, picture, title } from "../parts.js";
import { go, link } from "../route.js";
import { ask } from "../source.js";
import { counted, day, moment, percent } from "../text.js";

const LINES = 50; // users of one step of the list

export async function usersView() {
  const users = await ask("users", null, { offset: 0, limit: LINES });
  if (!users.total) return [pageHead("Users"), empty("No user has a page, because the log has no positives. Pages of users come with the next build:", "qarm build-explorer")];
  const input = h("input", { type: "text", "aria-label": "User ID", placeholder: "User ID", autocomplete: "off" });
  const open = (event) => {
    event.preventDefault();
    if (input.value.trim()) go("user", input.value.trim());
  };
  const line = (user) => h("a.line", { href: link("user", user.user_id) }, icon("users"), h("span.line-text", {}, h("bdi", {}, user.user_id)), h("span.line-side", {}, counted(user.positives, "positive")));
  return [
    pageHead("Users", h("p.lead", {}, `${counted(users.total, "user")} have a page here. Where the log has more users, they are a sample of them.`)),
    card(null, h("form.inline", { onsubmit: open }, h("label", {}, "Open a user ", input), h("button.button", { type: "submit" }, "Open")),
      h("div.columns", {}, growing({ label: "Users", first: users.users, total: users.total, line, more: async (offset) => (await ask("users", null, { offset, limit: LINES })).users }))),
  ];
}

export async function userView({ id }) {
  const page = await ask("user", id);
  const liked = page.behavior.map(([time, item]) => behaviorLine(time, item));
  return [
    pageHead(h("bdi", {}, `User ${page.user_id}`), h("p.lead", {}, page.model ? `Candidates are scored by ${page.model}.` : "There are no scores, because no ranking model was trained on these codes.")),
    page.model ? null : empty("Train a ranking model, then build the explorer again:", "qarm train-ranking-model"),
    h("div.two.uneven", {},
      card("Latest positives", page.behavior.length ? h("ul.list.timeline", { "aria-label": "Positives, the latest first", "data-arrows": true }, liked) : empty("The user has no positives.")),
      card("Candidates",
        note("Matches count the user's positives that share the codes of the candidate, level by level. Point at a candidate to see which ones."),
        page.candidates.length ? h("ol.list.candidates", { "aria-label": "Candidates, the highest score first", "data-arrows": true }, page.candidates.map((one) => candidateLine(one, liked))) : empty("The log shows no impressions of this user, and nobody scored other items."))),
  ];
}

function behaviorLine(time, item) {
  return h("li", { "data-item": item.item_id }, itemLine(item, h("time", { datetime: time, title: moment(time) }, day(time))));
}

function candidateLine(candidate, liked) {
  const { item, score, label, matched } = candidate;
  const because = new Set(matched.map((one) => one.item_id));
  const light = (on) => () => liked.forEach((line) => line.classList.toggle("lit", on && because.has(line.dataset.item)));
  return h("li.candidate", { onmouseenter: light(true), onmouseleave: light(false), onfocusin: light(true), onfocusout: light(false) },
    h("a.line", { href: link("item", item.item_id) },
      picture(item),
      h("span.line-text", {}, h("span.line-title", {}, title(item)), chips(item.rq_codes)),
      h("span.line-side", {}, outcome(label))),
    score === null ? null : h("div.score", {}, h("span.bar", { "aria-hidden": "true" }, h("i", { style: { width: `${100 * score}%` } })), h("span.number", { title: "Probability of a click by the ranking model" }, percent(score))),
    h("p.matches", {}, candidate.matches.map((number, n) => h("span.match", { class: number ? "some" : "" }, `level ${n + 1}: ${number}`))),
    matched.length ? h("p.because", {}, "Because of ", matched.map((one, n) => [n ? ", " : "", h("a", { href: link("item", one.item_id) }, title(one))])) : null);
}

function outcome(label) {
  if (label === null) return h("span.badge", {}, "not shown");
  return label ? h("span.badge.good", {}, "positive") : h("span.badge.warm", {}, "negative");
}
