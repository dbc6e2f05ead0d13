/**
 * A client of the REST API of qy-lty.
 * @module
 */
import { address } from "./address.js";
export { pair } from "./pair.js";
/** @import { Operations } from "./api.js" */

/** The most attempts at one call. */
const MAX_ATTEMPTS = 6;
/** Seconds: the back-off begins and ends here; a server that asks for a longer wait than the last is not waited for. */
const FIRST_DELAY = 0.5;
const MAX_DELAY = 60;

/** An answer that is no success. */
export class RestError extends Error {
  /**
   * @param {number} status The HTTP status.
   * @param {string} code The code for programs.
   * @param {string} message The text for people.
   * @param {number} [retryAfter] Seconds after which to try again.
   */
  constructor(status, code, message, retryAfter) {
    super(message);
    this.name = "RestError";
    this.status = status;
    this.code = code;
    this.retryAfter = retryAfter;
  }
}

/** Returns 128 random bits. `crypto.randomUUID` is missing in pages without TLS. */
const randomKey = () => [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");

/**
 * Returns the path of a queue.
 * @param {string} [kind] Whose.
 * @param {number} [id] Its id.
 */
const queuePath = (kind, id) => (kind ? `/api/queue/${kind}/${id}` : "/api/queue");

/**
 * Options of any call.
 * @typedef {object} CallOptions
 * @property {unknown} [body] The body.
 * @property {Record<string, any>} [query] Parameters; those that are `undefined` are left out.
 * @property {string} [idempotencyKey] Makes a repetition harmless.
 * @property {AbortSignal} [signal] Ends the call.
 */

/**
 * Options of a message: `ttl` in seconds.
 * @typedef {{delivery?: "queued" | "live", ttl?: number, idempotencyKey?: string}} MessageOptions
 */

/** The REST API with one token. Calls that are safe to repeat are repeated after faults of the network, 429 and 503: up to six attempts. */
export class RestClient {
  /**
   * @param {string} baseUrl The server: `http:`, `https:`, `ws:` or `wss:`, with or without a path.
   * @param {string} [token] The token; `login` sets it.
   * @param {{timeout?: number}} [options] `timeout`: seconds for one attempt, 30.
   */
  constructor(baseUrl, token, { timeout = 30 } = {}) {
    this.base = address(baseUrl, "http");
    this.token = token;
    this.timeout = timeout;
  }

  /**
   * Calls a route.
   * @param {string} method The method.
   * @param {string} path The path, from `/api` on.
   * @param {CallOptions} [options] Options.
   * @returns {Promise<any>} The whole answer: `data`, and for lists `next`. Rejects with a `RestError`, or the fault of the network.
   */
  async call(method, path, options = {}) {
    // A send without a key, and what creates something, might be done twice after a fault of the network.
    const repeatable = method !== "POST" || !!options.idempotencyKey;
    for (let attempt = 1; ; attempt++) {
      let wait = Math.random() * Math.min(MAX_DELAY, FIRST_DELAY * 2 ** attempt);
      try {
        return await this.#once(method, path, options);
      } catch (error) {
        options.signal?.throwIfAborted();
        const refused = error instanceof RestError;
        if (attempt === MAX_ATTEMPTS || (refused ? error.status !== 429 && error.status !== 503 : !repeatable)) throw error;
        if (refused && error.retryAfter) wait = error.retryAfter + Math.random();
        if (wait > MAX_DELAY + 1) throw error;
      }
      await new Promise((resolve) => setTimeout(resolve, wait * 1000));
    }
  }

  /**
   * Makes one attempt.
   * @param {string} method The method.
   * @param {string} path The path.
   * @param {CallOptions} options Options.
   */
  async #once(method, path, { body, query = {}, idempotencyKey, signal }) {
    const url = new URL(this.base + path);
    for (const name in query) if (query[name] !== undefined) url.searchParams.set(name, query[name]);
    const headers = new Headers(this.token ? { Authorization: `Token ${this.token}` } : {});
    if (body !== undefined) headers.set("Content-Type", "application/json");
    if (idempotencyKey) headers.set("Idempotency-Key", idempotencyKey);
    const limit = AbortSignal.timeout(this.timeout * 1000);
    const response = await fetch(url, {
      method, headers, body: body === undefined ? undefined : JSON.stringify(body), signal: signal ? AbortSignal.any([signal, limit]) : limit,
    });
    const text = await response.text();
    let answer;
    try {
      answer = JSON.parse(text);
    } catch {
      // Of a proxy.
      answer = { code: "no_json", message: text.slice(0, 200) };
    }
    if (response.ok && answer.status === "success") return answer;
    throw new RestError(response.status, answer.code, answer.message, answer.retry_after ?? (Number(response.headers.get("retry-after")) || undefined));
  }

  /**
   * Logs in; further calls use the token.
   * @param {string} username The name.
   * @param {string} password The password.
   * @returns {Promise<string>} The token.
   */
  async login(username, password) {
    return (this.token = (await this.call("POST", "/api/auth/login", { body: { username, password } })).token);
  }

  /** Revokes the token. */
  async logout() {
    await this.call("POST", "/api/auth/logout");
    this.token = undefined;
  }

  /** @returns {Promise<Operations["get_auth_me"]["data"]>} The user and the token. */
  async me() {
    return (await this.call("GET", "/api/auth/me")).data;
  }

  /** @returns {Promise<Operations["post_auth_ticket"]["data"]>} A ticket for the URL of a WebSocket. */
  async ticket() {
    return (await this.call("POST", "/api/auth/ticket")).data;
  }

  /**
   * @param {Operations["post_auth_tokens"]["body"]} [body] Label, kind, scopes, life.
   * @returns {Promise<Operations["post_auth_tokens"]["data"]>} A new token.
   */
  async createToken(body = {}) {
    return (await this.call("POST", "/api/auth/tokens", { body })).data;
  }

  /**
   * @param {Operations["get_devices"]["query"]} [query] Page and user.
   * @returns {Promise<Operations["get_devices"]["data"]>} The devices.
   */
  async devices(query) {
    return (await this.call("GET", "/api/devices", { query })).data;
  }

  /**
   * @param {number} id The device.
   * @returns {Promise<Operations["get_devices_id"]["data"]>} One device.
   */
  async device(id) {
    return (await this.call("GET", `/api/devices/${id}`)).data;
  }

  /**
   * @param {Operations["post_devices"]["body"]} body Its name and more.
   * @returns {Promise<Operations["post_devices"]["data"]>} The new device.
   */
  async createDevice(body) {
    return (await this.call("POST", "/api/devices", { body })).data;
  }

  /**
   * @param {number} id The device.
   * @param {Operations["patch_devices_id"]["body"]} body The changes.
   * @returns {Promise<Operations["patch_devices_id"]["data"]>} The device.
   */
  async updateDevice(id, body) {
    return (await this.call("PATCH", `/api/devices/${id}`, { body })).data;
  }

  /** @param {number} id The device to unbind or delete. */
  async deleteDevice(id) {
    await this.call("DELETE", `/api/devices/${id}`);
  }

  /**
   * @param {Operations["post_devices_claim"]["body"]} body The code that a device shows.
   * @returns {Promise<Operations["post_devices_claim"]["data"]>} The device.
   */
  async claim(body) {
    return (await this.call("POST", "/api/devices/claim", { body })).data;
  }

  /**
   * @param {number} id The device.
   * @param {Operations["post_devices_id_token"]["body"]} [body] Label and life.
   * @returns {Promise<Operations["post_devices_id_token"]["data"]>} A token of the device.
   */
  async deviceToken(id, body = {}) {
    return (await this.call("POST", `/api/devices/${id}/token`, { body })).data;
  }

  /**
   * Sends with a key that is made once, so that a repeated attempt is not a second message.
   * @param {string} path The route.
   * @param {string} type The type.
   * @param {unknown} message The content.
   * @param {MessageOptions} [options] Options.
   */
  async #send(path, type, message, { idempotencyKey = randomKey(), ...options } = {}) {
    return (await this.call("POST", path, { body: { type, message, ...options }, idempotencyKey })).data;
  }

  /**
   * @param {number} id The user.
   * @param {string} type The type.
   * @param {unknown} message The content.
   * @param {MessageOptions} [options] Options.
   * @returns {Promise<Operations["post_messages_user_id"]["data"]>} The message as it was accepted: it is on disk.
   */
  sendToUser(id, type, message, options) {
    return this.#send(`/api/messages/user/${id}`, type, message, options);
  }

  /**
   * @param {number} id The device.
   * @param {string} type The type.
   * @param {unknown} message The content.
   * @param {MessageOptions} [options] Options.
   * @returns {Promise<Operations["post_messages_device_id"]["data"]>} The message as it was accepted.
   */
  sendToDevice(id, type, message, options) {
    return this.#send(`/api/messages/device/${id}`, type, message, options);
  }

  /**
   * Sends to every user.
   * @param {string} type The type.
   * @param {unknown} message The content.
   * @param {MessageOptions} [options] Options.
   * @returns {Promise<Operations["post_messages_broadcast"]["data"]>} The message as it was accepted.
   */
  broadcast(type, message, options) {
    return this.#send("/api/messages/broadcast", type, message, options);
  }

  /**
   * @param {number} id The message.
   * @returns {Promise<Operations["get_messages_id"]["data"]>} Its receipt.
   */
  async receipt(id) {
    return (await this.call("GET", `/api/messages/${id}`)).data;
  }

  /** @param {number} id A message that nobody has received, to take back. */
  async takeBack(id) {
    await this.call("DELETE", `/api/messages/${id}`);
  }

  /**
   * @param {number} [since] The id after which to begin.
   * @returns {AsyncGenerator<Operations["get_messages_history"]["data"][number], void, void>} The retained messages, page by page.
   */
  history(since = 0) {
    return this.list("/api/messages/history", { since });
  }

  /**
   * Reads a list to its end.
   * @param {string} path The path.
   * @param {Record<string, any>} [query] Parameters.
   * @returns {AsyncGenerator<any, void, void>} Its entries; a page is read when it is needed.
   */
  async *list(path, query = {}) {
    for (let page = query; ; ) {
      const { data, next } = await this.call("GET", path, { query: page });
      yield* data;
      if (next === undefined || next === null) return;
      page = { ...query, since: undefined, after: next };
    }
  }

  /**
   * @param {"user" | "device"} [kind] Whose queue; without, all together.
   * @param {number} [id] Its id.
   * @returns {Promise<Operations["get_queue_user_id"]["data"]>} What waits there.
   */
  async queue(kind, id) {
    return (await this.call("GET", queuePath(kind, id))).data;
  }

  /**
   * @param {"user" | "device"} [kind] Whose queue; without, all of them.
   * @param {number} [id] Its id.
   * @returns {Promise<Operations["delete_queue_user_id"]["data"]>} The number of messages deleted.
   */
  async clearQueue(kind, id) {
    return (await this.call("DELETE", queuePath(kind, id))).data;
  }

  /**
   * @param {Operations["get_clients"]["query"]} [query] Page and user.
   * @returns {Promise<Operations["get_clients"]["data"]>} The readers of the user.
   */
  async clients(query) {
    return (await this.call("GET", "/api/clients", { query })).data;
  }

  /** @param {string} name The reader to forget. */
  async deleteClient(name) {
    await this.call("DELETE", `/api/clients/${encodeURIComponent(name)}`);
  }
}
