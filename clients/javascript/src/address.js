/** @import { ClientOptions } from "./types.js" */

/** The subprotocol: the version of the protocol that this package speaks. */
export const PROTOCOL = "qy-lty.v1";

/** A refusal over HTTP, or a fault of an attempt. */
export class Refusal extends Error {
  /**
   * @param {number} status The status.
   * @param {string | null | undefined} retryAfter The header `Retry-After`.
   */
  constructor(status, retryAfter) {
    super(`HTTP ${status}`);
    this.status = status;
    this.retryAfter = Number(retryAfter) || 0;
  }
}

/**
 * Returns the address of a server with another scheme, and without a final slash.
 * @param {string} base `ws:`, `wss:`, `http:` or `https:`, with or without a path.
 * @param {"ws" | "http"} scheme The scheme.
 */
export const address = (base, scheme) => base.replace(/^(ws|http)/i, scheme).replace(/\/+$/, "");

/** Whether this is a page or a worker of a browser. */
export const inBrowser = () => "document" in globalThis || "importScripts" in globalThis;

/**
 * Exchanges a token for a ticket.
 * @param {string} base The server's address.
 * @param {string} token The token.
 * @param {number} timeout Milliseconds.
 * @returns {Promise<string | undefined>} The ticket; `undefined` where this kind of token gets none.
 */
async function exchange(base, token, timeout) {
  const response = await fetch(`${address(base, "http")}/api/auth/ticket`, {
    method: "POST", headers: { Authorization: `Token ${token}` }, signal: AbortSignal.timeout(timeout),
  });
  if (response.ok) return (await response.json()).data.ticket;
  if (response.status !== 403) throw new Refusal(response.status, response.headers.get("retry-after"));
  return undefined;
}

/**
 * Makes the arguments of the class `WebSocket`.
 * @param {string} base The server's address.
 * @param {string} token The token.
 * @param {ClientOptions} options The options.
 * @param {Record<string, any>} query The parameters.
 * @param {number} timeout Milliseconds for the exchange of a ticket.
 * @returns {Promise<[string, string[], object?]>} The arguments.
 */
export async function socketArguments(base, token, options, query, timeout) {
  const { ticket = inBrowser(), WebSocket } = options;
  const protocols = [PROTOCOL];
  const parameters = new URLSearchParams();
  for (const name in query) if (query[name] != null) parameters.set(name, query[name]);
  const value = typeof ticket === "function" ? await ticket() : ticket && (await exchange(base, token, timeout));
  /** @type {object | undefined} */
  let init;
  if (value) parameters.set("ticket", value);
  // The class of `ws` takes headers; that of browsers and runtimes can set this one header only. A URL ends up in logs.
  else if (WebSocket?.prototype?.on) init = { headers: { Authorization: `Token ${token}` } };
  else if (/^[\w.~+-]+$/.test(token)) protocols.push(`token.${token}`);
  else parameters.set("token", token);
  return [`${address(base, "ws")}/ws/device/?${parameters}`, protocols, init];
}
