// The place within the page: the fragment of its address, so that it works below any path of a proxy and without the server's help.
import { signal } from "../vendor/preact.js";
import { ROOT } from "./api.js";

/**
 * @typedef {object} Route
 * @property {string} name of the view, the first part
 * @property {string[]} params the further parts
 * @property {Record<string, string>} query
 */

/** @returns {Route} */
function read() {
  const [path, search = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [name = "", ...params] = path.split("/").filter(Boolean).map(decoded);
  return { name, params, query: Object.fromEntries(new URLSearchParams(search)) };
}

/** @param {string} text */
function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** Where the page is. @type {import("@preact/signals").Signal<Route>} */
export const route = signal({ name: "", params: /** @type {string[]} */ ([]), query: {} });

/**
 * Returns the `href` of a view: `link("users", 7)`, `link("connections", { user_id: 7 })`.
 * @param {...(string | number | Record<string, any>)} parts an object is the query
 */
export function link(...parts) {
  const path = [];
  let search = "";
  for (const part of parts) {
    if (typeof part === "object") {
      const given = Object.entries(part).filter(([, value]) => value !== undefined && value !== null && value !== "");
      search = given.length ? `?${new URLSearchParams(given.map(([name, value]) => [name, String(value)]))}` : "";
    } else {
      path.push(encodeURIComponent(String(part)));
    }
  }
  return `#/${path.join("/")}${search}`;
}

/**
 * Goes to a view, as a link does.
 * @param {...(string | number | Record<string, any>)} parts as of `link`
 */
export function go(...parts) {
  location.hash = link(...parts);
}

/**
 * Replaces the query of the present place, without a step in the history: for filters.
 * @param {Record<string, any>} query
 */
export function setQuery(query) {
  const { name, params } = route.value;
  history.replaceState(null, "", link(name, ...params, query));
  route.value = read();
}

/** Follows the address. Called once, by the page. */
export function start() {
  // `/docs` is a place that people type and send to each other.
  const docs = /\/docs\/?$/.exec(location.pathname);
  if (docs) history.replaceState(null, "", new URL(`#/docs${location.hash.replace(/^#\/?/, "/")}`.replace(/\/$/, ""), ROOT));
  addEventListener("hashchange", () => { route.value = read(); });
  route.value = read();
}
