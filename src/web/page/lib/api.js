// The REST API as the page uses it: the cookie of the session, its CSRF secret, and what an error means.
import { signal } from "../vendor/preact.js";
import { has, remember, remembered, t } from "./i18n.js";

/**
 * @typedef {object} Me The caller, of `GET /api/auth/me`.
 * @property {number} id
 * @property {string} username
 * @property {"admin" | "user"} role
 * @property {boolean} disabled
 * @property {string} created_at
 * @property {number | null} primary_device_id
 * @property {{id: number, kind: string, label: string, created_at: string, expires_at: string | null}} token
 * @property {string} [csrf]
 * @property {string | null} [elevated_until]
 * @property {boolean} [elevation_needed]
 */
/**
 * @typedef {object} Answer What the server answers.
 * @property {string} status
 * @property {string} message
 * @property {any} data
 * @property {any} [next] the `after` of the next page
 * @property {string} [code]
 * @property {number} [retry_after]
 */

/** The page's own place; behind a reverse proxy it may have a path in front, of which the server does not know. */
export const ROOT = new URL("../..", import.meta.url);

/** Who is signed in: `undefined` until that is known, `null` for nobody. @type {import("@preact/signals").Signal<Me | null | undefined>} */
export const me = signal(/** @type {Me | null | undefined} */ (undefined));
/** Whether the server answers; while it does not, the page says so and tries again. */
export const reachable = signal(true);
/** Whether the session has ended by itself: the sign-in view says so. */
export const ended = signal(false);

let csrf = "";
/** Ends the requests of a session with it. */
let session = new AbortController();
/** The requests on their way. @type {Set<Promise<Response>>} */
const running = new Set();
/** Settles once the session is not being changed; meanwhile no other request is sent, since it would be refused. */
let settled = Promise.resolve();

/** An error that the server answered with. */
export class ApiError extends Error {
  /**
   * @param {number} status
   * @param {Partial<Answer>} answer
   */
  constructor(status, answer) {
    super(answer.message ?? `status ${status}`);
    this.status = status;
    /** @type {string} */
    this.code = answer.code ?? "";
    this.retryAfter = answer.retry_after;
    this.data = answer.data;
  }
}

/** The server did not answer. */
export class Unreachable extends Error {}
/** The reader has thought better of it: nothing to report. */
export class Cancelled extends Error {}

/**
 * Asks for the password, for what a session that is not fresh may not do without it. Set by the page; resolves to whether it was given.
 * @type {() => Promise<boolean>}
 */
let askPassword = async () => false;
/** @param {() => Promise<boolean>} ask */
export function onElevation(ask) { askPassword = ask; }

/**
 * Returns the address of a path of the API, with a query of what is given.
 * @param {string} path from `/` on
 * @param {Record<string, string | number | boolean | null | undefined>} [query] empty values are left out
 */
export function url(path, query = {}) {
  const made = new URL(path.replace(/^\//, ""), ROOT);
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined && value !== null && value !== "") made.searchParams.set(name, String(value));
  }
  return made;
}

/**
 * @param {string} method
 * @param {URL} where
 * @param {any} body
 * @param {Record<string, string>} [extra] headers
 * @param {AbortSignal} [signal]
 */
async function send(method, where, body, extra, signal) {
  /** @type {Record<string, string>} */
  const headers = { ...extra };
  if (method !== "GET") headers["X-CSRF-Token"] = csrf;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(where, { method, headers, body: body === undefined ? undefined : JSON.stringify(body), cache: "no-store", signal });
  } catch {
    if (signal?.aborted) throw new Cancelled();
    reachable.value = false;
    throw new Unreachable(t("ui.unreachable"));
  }
  reachable.value = true;
  return response;
}

/**
 * Sends a request within the session.
 * @param {string} method
 * @param {URL} where
 * @param {any} body
 * @param {Record<string, string>} [extra] headers
 */
async function once(method, where, body, extra) {
  const { signal } = session;
  await settled;
  if (signal.aborted) throw new Cancelled();
  const answer = send(method, where, body, extra, signal);
  running.add(answer);
  try {
    return await answer;
  } finally {
    running.delete(answer);
  }
}

/**
 * Sends a request that changes the session, while no other is on its way: between the old cookie and the new one, all are refused.
 * @type {typeof once}
 */
async function alone(method, where, body, extra) {
  const before = settled;
  let done = () => {};
  settled = new Promise((resolve) => { done = resolve; });
  try {
    await before;
    await Promise.allSettled(running);
    return await send(method, where, body, extra);
  } finally {
    done();
  }
}

/**
 * Calls the API. A session that has ended signs the page out; where the server asks for the password again, so does the page.
 * @param {string} method
 * @param {string} path
 * @param {{body?: any, query?: Record<string, any>, headers?: Record<string, string>, by?: typeof once}} [options]
 * @returns {Promise<Answer>}
 * @throws {ApiError | Unreachable | Cancelled}
 */
export async function request(method, path, { body, query, headers, by = once } = {}) {
  const where = url(path, query);
  const { signal } = session;
  for (let attempt = 0; ; attempt += 1) {
    const response = await by(method, where, body, headers);
    const answer = /** @type {Answer} */ (await response.json().catch(() => ({ message: response.statusText })));
    if (signal.aborted && by === once) throw new Cancelled();
    if (response.ok) return answer;
    const error = new ApiError(response.status, answer);
    if (error.code === "csrf" && attempt === 0 && me.value) {
      await whoAmI(); // another tab has signed in anew
      continue;
    }
    if (error.code === "elevation_required" && attempt < 2) {
      if (!(await askPassword())) throw new Cancelled();
      continue;
    }
    if (error.code === "unauthorized" && me.value) {
      ended.value = true;
      remember(SIGNED_IN, null);
      me.value = null;
    }
    throw error;
  }
}

/** @param {string} path @param {Record<string, any>} [query] */
export const get = (path, query) => request("GET", path, { query });
/** @param {string} path @param {any} [body] @param {Record<string, any>} [query] */
export const post = (path, body = {}, query = undefined) => request("POST", path, { body, query });
/** @param {string} path @param {any} [body] @param {Record<string, any>} [query] */
export const put = (path, body = {}, query = undefined) => request("PUT", path, { body, query });
/** @param {string} path @param {any} body @param {Record<string, any>} [query] */
export const patch = (path, body, query = undefined) => request("PATCH", path, { body, query });
/** @param {string} path @param {Record<string, any>} [query] */
export const del = (path, query) => request("DELETE", path, { query });

/**
 * Reads a list to its end, or to `most` entries.
 * @param {string} path
 * @param {Record<string, any>} [query]
 * @param {number} [most]
 * @returns {Promise<any[]>}
 */
export async function all(path, query = {}, most = 10_000) {
  const found = [];
  /** @type {any} */
  let after;
  do {
    const answer = await get(path, { limit: 1000, ...query, after });
    found.push(...answer.data);
    after = answer.next;
  } while (after !== undefined && found.length < most);
  return found;
}

/** Kept in the browser while somebody is signed in, so that a page without a session does not ask for one. Holds nothing secret. */
const SIGNED_IN = "qy-lty.signed-in";

/** Whether a session is possible: `true`, too, where the browser keeps nothing. */
export function mayBeSignedIn() {
  if (remembered(SIGNED_IN) !== null) return true;
  remember(SIGNED_IN, "?");
  const kept = remembered(SIGNED_IN) !== null;
  remember(SIGNED_IN, null);
  return !kept;
}

/** Finds out who is signed in, if anybody is. */
export async function whoAmI() {
  try {
    const response = await once("GET", url("/api/auth/me"), undefined);
    const answer = await response.json();
    csrf = response.ok ? answer.data.csrf ?? "" : "";
    me.value = response.ok ? answer.data : null;
    remember(SIGNED_IN, response.ok ? "yes" : null);
  } catch (error) {
    if (!(error instanceof Unreachable)) throw error; // else it is not known, and is asked again when the server is back
  }
}

/** @param {string} username @param {string} password */
export async function signIn(username, password) {
  await begin(await post("/api/auth/login", { username, password, cookie: true }));
}

/** @param {string} code of a one-time link */
export async function signInByLink(code) {
  await begin(await post("/api/auth/link", { code }));
}

/** @param {Answer} answer of a log-in */
async function begin(answer) {
  csrf = answer.data.csrf;
  ended.value = false;
  await whoAmI();
}

/** Ends the session, and before it what the views have asked for. */
export async function signOut() {
  session.abort();
  try {
    await request("POST", "/api/auth/logout", { body: {}, by: alone });
    csrf = "";
    ended.value = false;
    remember(SIGNED_IN, null);
    me.value = null;
  } finally {
    session = new AbortController();
  }
}

/**
 * Changes the password; every other log-in ends, and this session goes on with a new cookie.
 * @param {string} current
 * @param {string} next
 */
export async function changePassword(current, next) {
  await begin(await request("PUT", "/api/auth/password", { body: { current_password: current, new_password: next }, by: alone }));
}

/**
 * Saves what a path answers as a file, under the name that the server gives it. Read first where the password may be asked for.
 * @param {string} path
 * @param {string} name where the server gives none
 */
export async function download(path, name) {
  for (let attempt = 0; ; attempt += 1) {
    const response = await once("GET", url(path), undefined);
    if (response.ok) {
      const given = /filename="([^"]+)"/.exec(response.headers.get("Content-Disposition") ?? "");
      const link = document.createElement("a");
      link.href = URL.createObjectURL(await response.blob());
      link.download = given?.[1] ?? name;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
      return;
    }
    const error = new ApiError(response.status, await response.json().catch(() => ({})));
    if (error.code !== "elevation_required" || attempt > 1) throw error;
    if (!(await askPassword())) throw new Cancelled();
  }
}

/**
 * Returns what to tell people about an error; the empty text where there is nothing to tell.
 * @param {unknown} error
 * @returns {string}
 */
export function errorText(error) {
  if (error instanceof Cancelled) return "";
  if (error instanceof Unreachable) return t("ui.unreachable");
  if (!(error instanceof ApiError)) {
    // A plain `Error` is what a view says; anything else is a fault of the page.
    if (!(error instanceof Error) || error.constructor !== Error) console.error(error);
    return error instanceof Error ? error.message : String(error);
  }
  if (error.status === 429 || error.code === "busy") return t("error.wait", { n: error.retryAfter ?? 1 });
  const key = `error.${error.code}`;
  return has(key) ? t(key, { message: error.message }) : error.message;
}

/**
 * @typedef {object} Exchange What came back, as it came.
 * @property {number} status
 * @property {Record<string, string>} headers
 * @property {string} text
 * @property {number} ms
 */

/**
 * Sends a request as somebody has written it, and returns the answer whatever it is: for trying the API out.
 * @param {string} method
 * @param {URL} where
 * @param {string | undefined} body
 * @returns {Promise<Exchange>}
 */
export async function exchange(method, where, body) {
  const began = performance.now();
  /** @type {Record<string, string>} */
  const headers = method === "GET" ? {} : { "X-CSRF-Token": csrf };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(where, { method, headers, body, cache: "no-store" });
  } catch {
    reachable.value = false;
    throw new Unreachable(t("ui.unreachable"));
  }
  const text = await response.text();
  return { status: response.status, headers: Object.fromEntries(response.headers), text, ms: performance.now() - began };
}
