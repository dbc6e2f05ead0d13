/**
 * The types of the package. This module has no code.
 * @module
 */

/**
 * A frame from the server: a message, a reply or an event.
 * @typedef {{type: string, message?: any, data?: any, id?: number, ref?: string, sender?: string, via?: string, timestamp?: string, code?: any, [field: string]: any}} Frame
 */

/**
 * A handler of one type of frames. A queued message counts as handled, and is acknowledged, once the returned promise has settled.
 * @typedef {(frame: Frame) => unknown} Handler
 */

/**
 * The end of a send:
 * - `answered`: the server has replied, with `reply`;
 * - `sent`: written, but no reply is known, since the connection ended (`disconnected`) or the reply took too long (`unanswered`);
 * - `dropped`: not sent (`full`, `closed`, `expired`, `cancelled`), or refused by the server with `code`. With `stored`, a send that was
 *   dropped as `closed` is in the store, and is sent after the next start.
 * @typedef {{status: "answered", reply: Frame} | {status: "sent", reason: "disconnected" | "unanswered"}
 *   | {status: "dropped", reason: "full" | "expired" | "cancelled"} | {status: "dropped", reason: "closed", stored: boolean}
 *   | {status: "dropped", reason: "refused", code: string, message: string}} Outcome
 */

/**
 * A send on its way.
 * @typedef {object} Send
 * @property {string} ref Its `ref`, which the reply carries.
 * @property {"queued" | "sent" | "answered" | "dropped"} status Its state now.
 * @property {Promise<Outcome>} outcome Its end; never rejects.
 */

/**
 * Options of one send.
 * @typedef {object} SendOptions
 * @property {boolean} [retry] Send it again if the connection ends before the reply; up to ten times. The server may then process it twice.
 * @property {number} [ttl] Seconds after which it is dropped if it has not been written.
 * @property {"self" | "device" | {device_id: number}} [target] The recipient of the reply.
 */

/**
 * Options of a request.
 * @typedef {object} RequestOptions
 * @property {number} [timeout] Seconds from the call to the reply; the default is `requestTimeout`.
 * @property {boolean} [retry] As for a send.
 * @property {"self" | "device" | {device_id: number}} [target] The recipient of the reply.
 */

/**
 * The state that a store keeps: the epoch of the server's data, the highest id handled, and the sends that wait.
 * @typedef {{epoch?: string, id?: number, queue?: {ref: string, text: string, retry?: boolean, until?: number}[]}} SavedState
 */

/**
 * A store for the queue and the position. Both functions may be asynchronous; `save` is called with one state at a time.
 * @typedef {object} Store
 * @property {() => SavedState | null | undefined | Promise<SavedState | null | undefined>} load Returns the last state saved.
 * @property {(state: SavedState) => void | Promise<void>} save Keeps a state.
 */

/**
 * What the client needs of `localStorage`.
 * @typedef {{getItem(key: string): string | null, setItem(key: string, value: string): void}} WebStorage
 */

/**
 * Options of a client.
 * @typedef {object} ClientOptions
 * @property {string} [client] The name of this installation: 1 to 64 of `A–Z a–z 0–9 . _ -`. It makes the connection a reader of its own.
 * @property {string | number} [since] Replays the retained messages after that id, or `epoch:id`, on the first connection.
 * @property {"client" | "auto"} [ack] `client` (the default): a message is acknowledged once its handler has finished. `auto`: once it has arrived.
 * @property {boolean} [peek] Observes: receives what the reader would, and takes nothing from it.
 * @property {number} [concurrency] Queued messages handled at the same time; 1, the default, is in order.
 * @property {Store | WebStorage} [store] Where the position and the waiting sends are kept; in memory by default.
 * @property {number} [queueLimit] Sends that may wait or be unanswered at the same time; further ones are dropped as `full`. 1000.
 * @property {number} [messagesPerMinute] The pace of sends, below the server's limit; 90 by default, 0 for none.
 * @property {number} [heartbeatSeconds] Seconds between pings; 30.
 * @property {number} [requestTimeout] Seconds to wait for a reply; 30.
 * @property {number} [connectTimeout] Seconds within which a connection must be ready; 20.
 * @property {{first?: number, most?: number}} [backOff] Seconds: the delay before the n-th attempt is random, up to `first` × 2ⁿ and to `most`. 1 and 60.
 * @property {boolean | (() => string | Promise<string>)} [ticket] Whether the token is exchanged for a ticket; the default in browsers. A function returns one.
 * @property {number} [maxBytes] The largest message to receive; larger ones are passed over.
 * @property {any} [WebSocket] The class to use: that of `ws`, say. The default is the global one.
 */

/**
 * The end of a connection.
 * @typedef {object} CloseInfo
 * @property {number} code The close code; 1006 where there was none.
 * @property {string} reason The server's reason, or the fault.
 * @property {boolean} [wasClean] Set after a close handshake.
 */

/**
 * The state of a client. `gone`: it stays away until `connect()` is called, since a further attempt can't succeed.
 * @typedef {"idle" | "connecting" | "connected" | "waiting" | "closing" | "closed" | "gone"} State
 */

/**
 * The events and their data. `count` of `missed` is `null` where the number is not known, and an upper bound where `upto` is given.
 * @typedef {object} Events
 * @property {Frame} connected The event `connection_status`.
 * @property {CloseInfo & {willReconnect: boolean, retryIn: number}} disconnected The end of a connection or of an attempt; `retryIn` in seconds.
 * @property {{count: number | null, after?: number, upto?: number}} missed Messages that this reader can't receive any more.
 * @property {Frame} recovered Everything since the last connection is still there.
 * @property {{code: number, reason: string, meaning: string}} gone The client stays away.
 * @property {Error} error A fault of a handler, a store, a frame or an attempt.
 * @property {Frame} message A frame without a handler, but for those that have an event of their own.
 * @property {State} state A new state.
 */

export {};
