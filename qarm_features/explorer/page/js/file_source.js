/* Answers from the data inside a page of one file, which bundle.py put there part by part.
   In: a path of the contract. Out: its JSON, as the server would give it. */
import { found } from "./file_search.js";

/** Whether the data are inside this page. */
export const isFile = document.getElementById("data-index") !== null;

const opened = new Map();
const KEPT = 40; // parts

/** Return the answer to a path. */
export async function askFile(path, id, options) {
  const index = await part("index");
  const answer = ANSWERS[path] ?? ((whole) => whole[path]);
  return answer(index, { id, prefix: options.prefix ?? "", q: options.q ?? "", offset: Number(options.offset ?? 0), limit: Number(options.limit ?? 50) });
}

/** Return an item's picture as an address that holds it. */
export async function filePicture(itemId) {
  const [lines, index] = [await items(), await part("index")];
  const number = lines.numberOf.get(itemId);
  const place = lines.placeOfPicture.get(number);
  if (place === undefined) return null;
  const pictures = await part(`pictures-${Math.floor(place / index.sizes.pictures)}`);
  return `data:image/jpeg;base64,${pictures[number]}`;
}

const ANSWERS = {
  tree: async (index, { prefix, limit }) => cut(await treeOf(index, prefix), limit),
  items: async (index, { prefix, offset, limit }) => {
    const lines = await items();
    const below = lines.below(prefix);
    return { items: below.slice(offset, offset + limit), total: below.length };
  },
  search: async (index, { q }) => found(q, await items(), index.users, (prefix) => nodeOf(index, prefix)),
  collisions: async (index, { offset, limit }) => lit(index.collisions, await items()).slice(offset, offset + limit),
  users: async (index, { offset, limit }) => ({ users: index.users.slice(offset, offset + limit), total: index.users.length }),
  map: async (index) => {
    const lines = await items();
    const shown = index.map.item_id.map((id) => lines.all[lines.numberOf.get(id)]);
    return { ...index.map, title: shown.map((one) => one.title), rq_codes: shown.map((one) => one.rq_codes) };
  },
  item: async (index, { id }) => {
    const lines = await items();
    const number = lines.numberOf.get(id);
    if (number === undefined || number >= lines.pages) throw new Error(`Item ${id} is not in this file.`);
    const page = lit((await part(`items-${Math.floor(number / index.sizes.items)}`))[number % index.sizes.items], lines);
    const codes = page.item.rq_codes;
    const path = await Promise.all(codes.map((_, n) => nodeOf(index, codes.slice(0, n + 1).join("."))));
    return { ...page, path };
  },
  user: async (index, { id }) => {
    const at = index.users.findIndex((one) => one.user_id === id);
    if (at < 0) throw new Error(`User ${id} is not in this file.`);
    return lit((await part(`users-${Math.floor(at / index.sizes.users)}`))[id], await items());
  },
};

async function treeOf(index, prefix) {
  const lines = await items();
  if (prefix === "") return lit(index.tree, lines);
  const below = await part(`tree-${prefix.split(".")[0]}`);
  if (below?.[prefix]) return lit(below[prefix], lines);
  return { node: await nodeOf(index, prefix), children: [], left_out: 0, left_out_items: 0 };
}

/** Return a prefix as what is above it lists it; one that is not listed, by its items in this file. */
async function nodeOf(index, prefix) {
  const lines = await items();
  const above = prefix.split(".").slice(0, -1).join(".");
  const around = above === "" ? index.tree : (await part(`tree-${prefix.split(".")[0]}`))?.[above];
  const listed = around?.children.find((one) => one.prefix === prefix);
  if (listed) return lit(listed, lines);
  const below = lines.below(prefix);
  if (!below.length) throw new Error(`This file has no item below the prefix ${prefix}.`);
  const positives = below.reduce((sum, one) => sum + one.positives, 0);
  return { prefix, level: prefix.split(".").length, items: below.length, children: 0, positives, words: [], typical: below.slice(0, 4) };
}

function cut(tree, limit) {
  const rest = tree.children.slice(limit);
  const items = rest.reduce((sum, one) => sum + one.items, 0);
  return { ...tree, children: tree.children.slice(0, limit), left_out: tree.left_out + rest.length, left_out_items: tree.left_out_items + items };
}

/** Return a value in which {"#": number} is the item of this number. */
function lit(value, lines) {
  if (Array.isArray(value)) return value.map((one) => lit(one, lines));
  if (value === null || typeof value !== "object") return value;
  if ("#" in value) return lines.all[value["#"]];
  return Object.fromEntries(Object.entries(value).map(([name, one]) => [name, lit(one, lines)]));
}

async function items() {
  if (!opened.has("made")) opened.set("made", part("lines").then(made));
  return opened.get("made");
}

function made(columns) {
  const pictures = new Map(columns.pictures.map((number, place) => [number, place]));
  const all = columns.item_id.map((item_id, n) => ({
    item_id, title: columns.title[n], rq_codes: columns.codes[n] === "" ? [] : columns.codes[n].split(".").map(Number),
    positives: columns.positives[n], picture: pictures.has(n),
  }));
  const withPage = all.slice(0, columns.pages);
  const below = (prefix) => (prefix === "" ? withPage : withPage.filter((_, n) => `${columns.codes[n]}.`.startsWith(`${prefix}.`)));
  return { all, pages: columns.pages, withPage, below, numberOf: new Map(columns.item_id.map((id, n) => [id, n])), placeOfPicture: pictures };
}

/** Return a part of the data, or undefined where there is none. The first and the largest ones are kept. */
function part(name) {
  if (!opened.has(name)) {
    const tag = document.getElementById(`data-${name}`);
    if (!tag) return Promise.resolve(undefined);
    if (opened.size > KEPT) opened.delete([...opened.keys()].find((one) => /-\d+$/.test(one)));
    opened.set(name, unpacked(tag.textContent));
  }
  return opened.get(name);
}

async function unpacked(base64) {
  if (!window.DecompressionStream) throw new Error("This browser is too old to open the data of the page. Any browser since 2023 can.");
  const letters = atob(base64);
  const packed = new Uint8Array(letters.length);
  for (let n = 0; n < letters.length; n++) packed[n] = letters.charCodeAt(n);
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}
