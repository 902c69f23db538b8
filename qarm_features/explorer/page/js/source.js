/* Where answers come from: the server, or the data inside this file.
   In: a path of the contract and its parameters. Out: its JSON. */
import { askFile, filePicture, isFile } from "./file_source.js";

const answers = new Map();
const KEPT = 300; // answers

/** An error that a person can read. */
export class Problem extends Error {}

/**
 * Return the answer to a path.
 *
 * @param {string} path Such as "tree" or "item".
 * @param {string|null} id ID of the item or user, for paths that have one.
 * @param {object} options Parameters of the query.
 */
export async function ask(path, id = null, options = {}) {
  const query = new URLSearchParams(id === null ? options : { [`${path}_id`]: id, ...options }).toString();
  const url = `api/${path}${query ? `?${query}` : ""}`;
  if (!answers.has(url)) {
    if (answers.size >= KEPT) answers.delete(answers.keys().next().value);
    answers.set(url, isFile ? askFile(path, id, options) : fetched(url));
    answers.get(url).catch(() => answers.delete(url));
  }
  return answers.get(url);
}

/** Return the address of an item's picture. */
export async function pictureOf(item) {
  return isFile ? filePicture(item.item_id) : `api/picture?${new URLSearchParams({ item_id: item.item_id })}`;
}

async function fetched(url) {
  let response;
  try {
    response = await fetch(url);
  } catch {
    throw new Problem("The server does not answer. Start it again: qarm explore");
  }
  const answer = await response.json().catch(() => ({ error: `The server answered ${response.status}.` }));
  if (!response.ok) throw new Problem(answer.error);
  return answer;
}
