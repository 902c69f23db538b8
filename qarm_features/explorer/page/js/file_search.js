/* The search of a page of one file. In: what was typed, and the items. Out: what the server's search would find. */

const MOST_ITEMS = 20;
const MOST_USERS = 5;
let words = null; // of each title, made by the first search

/**
 * Find items by ID or by the first letters of the words of their titles, users by ID, and a prefix.
 *
 * @param {string} typed What was typed.
 * @param {object} items The items of the file.
 * @param {Array} users Users of the file.
 * @param {function} nodeOf Gives a prefix, or fails where there is none.
 */
export async function found(typed, items, users, nodeOf) {
  const q = typed.trim();
  const wanted = plain(q).split(/[^\p{L}\p{N}]+/u).filter(Boolean);
  words ??= items.withPage.map((one) => ` ${plain(one.title).replace(/[^\p{L}\p{N}]+/gu, " ")}`);
  const byTitle = wanted.length ? items.withPage.filter((_, n) => wanted.every((word) => words[n].includes(` ${word}`))) : [];
  const byId = items.withPage.filter((one) => q && one.item_id.startsWith(q));
  const rank = (one) => [one.item_id === q, plain(one.title) === plain(q), plain(one.title).startsWith(plain(q))].map((is) => (is ? 0 : 1)).join("");
  const ordered = [...new Set([...byTitle, ...byId])].map((one) => [rank(one), one]).sort(([a, one], [b, other]) => a.localeCompare(b) || other.positives - one.positives);
  const prefixes = /^\d+(\.\d+)*$/.test(q) ? await nodeOf(q).then((node) => [node], () => []) : [];
  return {
    items: ordered.slice(0, MOST_ITEMS).map(([, one]) => one),
    users: users.map((one) => one.user_id).filter((id) => q && id.startsWith(q)).slice(0, MOST_USERS),
    prefixes,
  };
}

/** Return a text without capitals and accents. */
function plain(text) {
  return text.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase();
}
