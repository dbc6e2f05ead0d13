import { Chat, failure } from "./chat.js";
import { Inbox } from "./inbox.js";
import { Link } from "./link.js";
import { Outbox } from "./outbox.js";
import { Saver, webStore } from "./storage.js";
/** @import { ClientOptions, CloseInfo, Events, Frame, Handler, RequestOptions, Send, SendOptions } from "./types.js" */

/** Frames with an event of their own, or a reply to the heartbeat: they are no news for listeners of `message`. */
const OWN = /^(connection_status|disconnect|missed|pong)$/;

/** A connection to qy-lty that comes back by itself. */
export class DeviceWebSocketClient {
  /** @type {Map<string, Set<(data: any) => void>>} */
  #listeners = new Map();
  /** @type {((event: any) => unknown) | undefined} Called once a connection is ready. */
  onConnect;
  /** @type {((event: CloseInfo) => unknown) | undefined} Called at the end of a connection. */
  onDisconnect;
  /** @type {((error: any) => unknown) | undefined} Called with faults. */
  onError;
  #inbox;
  #outbox;
  #saver;
  #link;

  /**
   * @param {string | (() => string | Promise<string>)} token The token, or a function that returns one; it is called again after a refusal.
   * @param {string} [baseUrl] The server: `ws:`, `wss:`, `http:` or `https:`, with or without a path.
   * @param {ClientOptions} [options] The options.
   */
  constructor(token, baseUrl = "ws://localhost:8000", options = {}) {
    const { client } = options;
    if (client != null && !/^[\w.-]{1,64}$/.test(client)) throw new TypeError("client must have 1 to 64 of A-Z a-z 0-9 . _ -");
    if (!/^(ws|http)s?:\/\/./i.test(baseUrl)) throw new TypeError("baseUrl must begin with ws://, wss://, http:// or https://");
    if (!(options.WebSocket ?? globalThis.WebSocket)) throw new TypeError("no WebSocket here: pass the class of `ws` as `WebSocket`");
    this.token = token;
    this.baseUrl = baseUrl;
    this.options = options;
    /** @type {any} The socket of the moment. */
    this.ws = null;
    /** Attempts since the last connection. */
    this.reconnectAttempts = 0;
    /** @type {Map<string, Handler>} */
    this.messageHandlers = new Map();
    const { store: kept, ack, peek, concurrency = 1, queueLimit = 1000, messagesPerMinute = 90, requestTimeout = 30 } = options;
    const store = kept && "getItem" in kept ? webStore(kept, `qy-lty:${client ?? "default"}`) : kept;
    const _fault = (/** @type {any} */ error) => {
      if (this.onError) this.#guard(this.onError, error, true);
      _emit("error", error);
    };
    const _emit = this.#emit.bind(this);
    const _handle = this.#handle.bind(this);
    const _save = () => this.#saver._save();
    this.#inbox = new Inbox({
      _handle, _save, _saved: () => this.#saver._saved(), _overflow: (count) => _emit("missed", { count }),
      _send: (frame) => {
        // The server tells of missed messages until something is acknowledged.
        if (this.#link._write(JSON.stringify(frame))) this.#link._missed = 0;
      },
    }, { acks: ack !== "auto" && !peek, concurrency: Math.max(1, concurrency) });
    this.#outbox = new Outbox({
      _save, _write: (text) => this.#link._write(text), _buffered: () => this.ws?.bufferedAmount ?? 0, _gone: () => this.state === "gone",
    }, { limit: queueLimit, perMinute: messagesPerMinute, timeout: requestTimeout, persistent: !!store });
    this.#saver = new Saver(store, () => {
      const { _epoch, _handled } = this.#inbox;
      return { epoch: _epoch, id: _handled, queue: this.#outbox._state() };
    }, ({ epoch, id = 0, queue: saved = [] }) => {
      if (epoch) Object.assign(this.#inbox, { _epoch: epoch, _handled: id, _seen: id });
      this.#outbox._restore(saved);
    }, _fault);
    this.#link = new Link({
      _client: this, _inbox: this.#inbox, _outbox: this.#outbox, _saver: this.#saver, _emit, _fault, _handle, _guard: this.#guard.bind(this),
    });
  }

  /** The state. */
  get state() {
    return this.#link._state;
  }

  /**
   * Connects, and keeps the connection until `disconnect()`.
   * @returns {Promise<boolean>} Resolves once connected, with `true`; with `false` if the client is closed first or must stay away. Never rejects.
   */
  connect() {
    return this.#link._connect();
  }

  /**
   * Acknowledges what has been handled, and closes the connection.
   * @returns {Promise<void>} Resolves after the close handshake, or after two seconds.
   */
  disconnect() {
    return this.#link._disconnect();
  }

  /**
   * Sends a message, or puts it into the queue while there is no connection.
   * @param {string} type The type.
   * @param {any} [message] The content.
   * @param {SendOptions} [options] Options.
   * @returns {Send} The send, with its outcome.
   */
  sendMessage(type, message = {}, options = {}) {
    return this.#outbox._add(type, message, options);
  }

  /**
   * Sends a message and waits for its reply, which no handler receives. It may be used in handlers.
   * @param {string} type The type.
   * @param {any} [message] The content.
   * @param {RequestOptions} [options] Options.
   * @returns {Promise<Frame>} The reply. Rejects with a `RequestError`.
   */
  async request(type, message = {}, options = {}) {
    const outcome = await this.#outbox._add(type, message, options, () => false).outcome;
    if (outcome.status === "answered") return outcome.reply;
    throw failure(outcome);
  }

  /**
   * Asks the model, and streams its answer.
   * @param {string} text The question.
   * @param {RequestOptions} [options] Options; `timeout` is the longest silence between two parts, 90 seconds by default.
   * @returns {Chat} The answer: an async iterator of its parts, with `cancel()` and `text()`.
   */
  chat(text, options = {}) {
    const { timeout = 90 } = options;
    const chat = new Chat(async () => {
      if (entry.status === "queued") return this.#outbox._remove(entry, "cancelled"), true;
      const message = { ref: entry.ref };
      return this.request("chat_cancel", message).then((reply) => reply.cancelled, () => false);
    });
    const entry = this.#outbox._add("chat_message", { content: text, stream: true }, { ...options, timeout }, (frame) => {
      if (frame.type !== "chat_delta") return false;
      chat._push(frame.message);
      this.#outbox._deadline(entry, timeout);
      return true;
    });
    chat._follow(entry);
    return chat;
  }

  /**
   * Registers the handler of a type; one that was registered before is replaced.
   * @param {string} type The type.
   * @param {Handler} handler The handler.
   */
  onMessage(type, handler) {
    this.messageHandlers.set(type, handler);
  }

  /**
   * Listens to an event.
   * @template {keyof Events} Name
   * @param {Name} name The event.
   * @param {(data: Events[Name]) => void} listener The listener.
   * @returns {() => void} A function that removes the listener.
   */
  on(name, listener) {
    const listeners = this.#listeners.get(name) ?? new Set();
    this.#listeners.set(name, listeners.add(listener));
    return () => void listeners.delete(listener);
  }

  /**
   * Sends a question; its answer goes to the handler of `chat_response`.
   * @param {string} message The text.
   */
  sendChatMessage(message) {
    return this.sendMessage("chat_message", message);
  }

  /**
   * Asks for the weather; the answer goes to the handler of `weather_response`.
   * @param {string} city The city.
   */
  requestWeather(city) {
    return this.sendMessage("weather", { city });
  }

  /**
   * Asks for a song; the answer goes to the handler of `sing_response`.
   * @param {string} song The song.
   * @param {string} [artist] The singer.
   */
  requestSing(song, artist) {
    return this.sendMessage("sing", { song, artist });
  }

  /**
   * Asks for a dance; the answer goes to the handler of `dance_response`.
   * @param {string} dance The dance.
   * @param {string} [style] The style.
   * @param {string} [duration] The duration.
   */
  requestDance(dance, style, duration = "30秒") {
    return this.sendMessage("dance", { dance, style, duration });
  }

  /**
   * Calls the listeners of an event.
   * @template {keyof Events} Name
   * @param {Name} name The event.
   * @param {Events[Name]} data Its data.
   * @returns {Promise<unknown>} The end of the last of them; never rejects.
   */
  #emit(name, data) {
    return Promise.all([...(this.#listeners.get(name) ?? [])].map((listener) => this.#guard(listener, data, name === "error")));
  }

  /**
   * Runs a function of the program. A fault in it goes to `onError` and the listeners of `error`, else to the console.
   * @param {((data: any) => unknown) | undefined} work The function.
   * @param {any} data Its argument.
   * @param {boolean} [last] Set where the function is one of those itself.
   */
  async #guard(work, data, last) {
    try {
      await work?.(data);
    } catch (error) {
      const { onError } = this;
      if (last || !(onError || this.#listeners.get("error")?.size)) return console.error(error);
      if (onError) this.#guard(onError, error, true);
      this.#emit("error", /** @type {Error} */ (error));
    }
  }

  /** @param {Frame | undefined} frame A frame for the program. */
  async #handle(frame) {
    if (!frame) return;
    const handler = this.messageHandlers.get(frame.type);
    if (handler) await this.#guard(handler, frame);
    else if (!OWN.test(frame.type)) await this.#emit("message", frame);
  }
}
