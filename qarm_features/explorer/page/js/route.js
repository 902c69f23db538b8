/* Places of the explorer as hashes, so that back and forward work, from a server and from a file alike.
   In: "#/item/a%2Fb?x=1". Out: {view: "item", id: "a/b", options: {x: "1"}}, and back. */

/** Return the place that the address names. */
export function placeOf(hash) {
  const [path, query = ""] = hash.replace(/^#\/?/, "").split("?");
  const [view, ...rest] = path.split("/");
  return { view: view || "overview", id: decoded(rest.join("/")), options: Object.fromEntries(new URLSearchParams(query)) };
}

/** Return the hash of a place. */
export function link(view, id = "", options = {}) {
  const query = new URLSearchParams(Object.entries(options).filter(([, one]) => one !== "")).toString();
  return `#/${view}${id === "" ? "" : `/${encodeURIComponent(id)}`}${query ? `?${query}` : ""}`;
}

/** Go to a place. */
export function go(view, id = "", options = {}) {
  location.hash = link(view, id, options);
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
