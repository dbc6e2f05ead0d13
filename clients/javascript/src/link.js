import { Refusal, socketArguments } from "./address.js";
/** @import { DeviceWebSocketClient } from "./client.js" */
/** @import { Inbox } from "./inbox.js" */
/** @import { Outbox } from "./outbox.js" */
/** @import { Saver } from "./storage.js" */
/** @import { CloseInfo, Events, Frame, State } from "./types.js" */

/** Close codes after which another attempt can't succeed. */
const AWAY = /** @type {Record<number, string>} */ ({
  4001: "get another token",
  4003: "fix the user id in the path",
  4104: "delete a client that is no longer used",
});
/** Milliseconds to wait for the server's close frame. */
const CLOSE_TIMEOUT = 2000;
/** Milliseconds to wait for a frame after a ping, at most. */
const PONG_TIMEOUT = 20000;
/** The longest delay that a server may ask for, in seconds: no mistake of a proxy keeps a client away for good. */
const MAX_RETRY_AFTER = 3600;

/**
 * The parts of a client that a link works with.
 * @typedef {object} Core
 * @property {DeviceWebSocketClient} _client The client.
 * @property {Inbox} _inbox Its received messages.
 * @property {Outbox} _outbox Its sends.
 * @property {Saver} _saver Its store.
 * @property {<Name extends keyof Events>(name: Name, data: Events[Name]) => unknown} _emit Calls listeners.
 * @property {(work: ((data: any) => unknown) | undefined, data: any) => unknown} _guard Runs a callback of the program.
 * @property {(error: any) => void} _fault Reports a fault of the connection.
 * @property {(frame: Frame | undefined) => Promise<void>} _handle Runs a handler.
 */

/** The connection: attempts, back-off, heartbeat, close. */
export class Link {
  /** @type {State} */
  _state = "idle";
  /** @type {ReturnType<typeof setTimeout> | undefined} The limit of an attempt, or the delay before the next one. */
  #timer;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #beat;
  /** Set from a ping to the next frame. */
  #pinged = false;
  /** The number of the attempt: what belongs to an earlier one has no effect. */
  #turn = 0;
  /** @type {Frame | undefined} The event `disconnect` of this connection. */
  #advice;
  #retryAfter = 0;
  /** The time before which the server wants no further attempt. */
  #notBefore = 0;
  #connectedAt = 0;
  /** Set after a refused credential was renewed, until a connection is ready. */
  #renewed = false;
  /** The number of missed messages that the server repeats, until something is acknowledged. */
  _missed = 0;
  /** Whether the credential of this attempt can be had anew. */
  #renewable = false;
  /** @type {string | undefined} What the program's function has returned. */
  #token;
  /** @type {any} */
  #opened;
  /** @type {Promise<void> | undefined} */
  #closing;
  /** @type {((connected: boolean) => void)[]} */
  #waiting = [];

  /** @param {Core} core The client. */
  constructor(core) {
    this._core = core;
  }

  /** @returns {Promise<boolean>} Whether it is connected. */
  _connect() {
    return new Promise((resolve) => {
      if (this._state === "connected" && !this.#closing) return resolve(true);
      this.#waiting.push(resolve);
      if (!this.#closing && /idle|closed|gone/.test(this._state)) this.#start();
    });
  }

  #start() {
    globalThis.addEventListener?.("online", this.#wake);
    globalThis.document?.addEventListener("visibilitychange", this.#wake);
    this.#renewed = false;
    this.#token = undefined;
    this._core._client.reconnectAttempts = 0;
    this.#open();
  }

  /** @param {boolean} connected The answer to those who wait for a connection. */
  #answer(connected) {
    for (const resolve of this.#waiting.splice(0)) resolve(connected);
  }

  /** @returns {Promise<void>} The end of the close. */
  _disconnect() {
    this.#closing ??= this.#close().finally(() => {
      this.#closing = undefined;
      if (this.#waiting.length) this.#start();
    });
    return this.#closing;
  }

  /** @param {State} state The new state. */
  #set(state) {
    this._state = state;
    this._core._emit("state", state);
  }

  /**
   * Writes a frame.
   * @param {string} text The frame.
   * @returns {boolean} Whether there is a connection.
   */
  _write(text) {
    const { ws } = this._core._client;
    if (this._state !== "connected" || ws?.readyState !== 1) return false;
    ws.send(text);
    return true;
  }

  /** Starts an attempt. */
  async #open() {
    const { _client, _inbox, _saver } = this._core;
    const { connectTimeout = 20, client, ack, peek, maxBytes, since, WebSocket: Socket = globalThis.WebSocket } = _client.options;
    const turn = ++this.#turn;
    this.#advice = undefined;
    this.#retryAfter = this.#connectedAt = 0;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#ended({ code: 1006, reason: "connect timeout" }), connectTimeout * 1000);
    this.#set("connecting");
    try {
      await _saver._busy;
      const { token } = _client;
      const secret = typeof token === "function" ? (this.#token ??= await token()) : token;
      const query = { client, [peek ? "peek" : "ack"]: peek ? 1 : ack ?? "client", max_bytes: maxBytes, since: _inbox._since() ?? since };
      this.#renewable = typeof token === "function";
      const [url, protocols, init] = await socketArguments(_client.baseUrl, secret, _client.options, query, connectTimeout * 1000);
      // A ticket is forgotten when the server restarts: not the token need be wrong.
      this.#renewable ||= /[?&]ticket=/.test(url);
      if (turn === this.#turn) this.#attach(init ? new Socket(url, protocols, init) : new Socket(url, protocols));
    } catch (error) {
      if (turn === this.#turn) this.#refused(error);
    }
  }

  /** @param {any} error The reason for which an attempt failed: a `Refusal` where it was one. */
  #refused(error) {
    const { status, message, retryAfter = 0 } = error;
    this._core._fault(error);
    this.#retryAfter = retryAfter;
    this.#ended({ code: status === 401 ? 4001 : 1006, reason: `${message}` });
  }

  /** @param {any} ws The new socket. */
  #attach(ws) {
    const { _client, _fault } = this._core;
    _client.ws = ws;
    /** @param {(event: any, more: any) => void} work The function; called for the socket of the moment only. */
    const own = (work) => (/** @type {any} */ event, /** @type {any} */ more) => {
      if (ws === _client.ws && !this.#closing) work(event, more);
    };
    ws.onopen = own((event) => (this.#opened = event));
    ws.onmessage = own(({ data }) => this.#receive(data));
    ws.onerror = own(_fault);
    ws.onclose = own((event) => this.#ended(event));
    // Only the class of `ws` shows why a handshake was refused.
    if (_client.options.WebSocket?.prototype?.on) {
      ws.on("unexpected-response", own((_request, response) => this.#refused(new Refusal(response.statusCode, response.headers["retry-after"]))));
    }
  }

  /** @param {string} data A frame as it came. */
  #receive(data) {
    const { _inbox, _outbox, _handle, _fault, _emit } = this._core;
    /** @type {Frame} */
    let frame;
    this.#pinged = false;
    try {
      frame = JSON.parse(data);
      if (frame.type === "connection_status" && this._state === "connecting") this.#ready(frame);
    } catch (error) {
      return _fault(error);
    }
    const { type, id = 0, ref } = frame;
    if (type === "disconnect") this.#advice = frame;
    if (type === "missed") _emit("missed", { count: frame.upto - frame.after, after: frame.after, upto: frame.upto });
    const rest = ref && _outbox._reply(frame) ? undefined : frame;
    // The `id` of `delivery_status` is that of another mailbox's message.
    if (id > 0 && type !== "delivery_status") _inbox._receive(rest, id, data.length);
    else _handle(rest);
  }

  /** @param {Frame} status The first event of the connection. */
  #ready(status) {
    const { _client, _inbox, _outbox, _emit, _guard } = this._core;
    const again = _inbox._since() ?? _client.options.since;
    clearTimeout(this.#timer);
    this.#connectedAt = Date.now();
    this.#renewed = this.#pinged = false;
    _inbox._opened(status);
    this.#tick(false);
    this.#set("connected");
    _emit("connected", status);
    _guard(_client.onConnect, this.#opened);
    const { missed = 0, recovered } = status;
    // The server counts anew after an acknowledgement; those of the library are not seen here.
    if (_client.options.ack === "auto" && missed !== this._missed) this._missed = 0;
    if (missed > this._missed) _emit("missed", { count: missed - this._missed });
    else if (recovered === false && !missed) _emit("missed", { count: null });
    if (recovered && again) _emit("recovered", status);
    this._missed = missed;
    this.#answer(true);
    _outbox._flush();
  }

  /**
   * The heartbeat: a ping, and a frame soon after it, or the connection is given up.
   * @param {boolean} ping Whether a ping is due.
   */
  #tick(ping) {
    const interval = (this._core._client.options.heartbeatSeconds ?? 30) * 1000;
    const timeout = Math.min(interval, PONG_TIMEOUT);
    clearTimeout(this.#beat);
    if (this.#pinged) return this.#ended({ code: 1006, reason: "no answer to a ping" });
    if (!interval) return;
    if (ping) {
      this.#pinged = this._write(JSON.stringify({ type: "ping", message: {}, timestamp: new Date().toISOString() }));
    }
    this.#beat = setTimeout(() => this.#tick(!ping || timeout === interval), ping ? timeout : interval - timeout || interval);
  }

  /** The network or the page is back. */
  #wake = () => {
    if (globalThis.document?.hidden) return;
    if (this._state === "waiting" && Date.now() >= this.#notBefore) this.#open();
    else if (this._state === "connected" && !this.#pinged) this.#tick(true);
  };

  /**
   * A connection or an attempt has ended.
   * @param {CloseInfo} event The close event, or what stands for it.
   */
  #ended(event) {
    const { _client, _inbox, _outbox, _emit } = this._core;
    const { backOff: { first = 1, most = 60 } = {} } = _client.options;
    const { code, reason, reconnect } = { .../** @type {any} */ ({ code: event.code, reason: event.reason }), ...this.#advice };
    this.#detach();
    _inbox._lost();
    _outbox._lost(code);
    // A connection that did not live counts as a failed attempt: no loop without a delay that grows.
    if (this.#connectedAt && Date.now() - this.#connectedAt >= first * 1000) _client.reconnectAttempts = 0;
    const retryAfter = Math.min(this.#advice?.retry_after ?? this.#retryAfter, MAX_RETRY_AFTER);
    let stay = reconnect === false || (code in AWAY && reconnect !== true);
    if (code === 4001 && !this.#renewed && this.#renewable) {
      stay = false;
      this.#renewed = true;
      this.#token = undefined;
    }
    const limit = retryAfter ? first : Math.min(most, first * 2 ** _client.reconnectAttempts++);
    const retryIn = stay ? 0 : retryAfter + Math.random() * limit;
    this.#notBefore = Date.now() + retryAfter * 1000;
    if (!stay) this.#timer = setTimeout(() => this.#open(), retryIn * 1000);
    if (stay) {
      this.#deafen();
      _outbox._close();
      this.#answer(false);
    }
    this.#set(stay ? "gone" : "waiting");
    this.#tell(event, { code, reason, willReconnect: !stay, retryIn });
    if (stay) _emit("gone", { code, reason, meaning: AWAY[code] ?? reason });
  }

  /**
   * Tells the program of the end of a connection or of an attempt.
   * @param {CloseInfo} event The close event, or what stands for it.
   * @param {Events["disconnected"]} data Its event.
   */
  #tell(event, data) {
    const { _client, _emit, _guard } = this._core;
    _guard(_client.onDisconnect, event);
    _emit("disconnected", data);
  }

  /** Lets go of the socket, whatever state it is in. */
  #detach() {
    const { ws } = this._core._client;
    this.#turn++;
    clearTimeout(this.#timer);
    clearTimeout(this.#beat);
    this._core._client.ws = null;
    if (ws?.readyState < 3) ws.terminate ? ws.terminate() : ws.close();
  }

  #deafen() {
    globalThis.removeEventListener?.("online", this.#wake);
    globalThis.document?.removeEventListener("visibilitychange", this.#wake);
  }

  /** Closes the connection: acknowledgements, the close handshake, the store. */
  async #close() {
    const { _client, _inbox, _outbox, _saver } = this._core;
    const { ws } = _client;
    this.#answer(false);
    this.#deafen();
    this.#turn++;
    clearTimeout(this.#timer);
    clearTimeout(this.#beat);
    if (ws) ws.onmessage = null;
    _inbox._close();
    await _inbox._ack();
    this.#set("closing");
    _outbox._close();
    if (ws) {
      /** @type {CloseInfo} */
      const event = ws.readyState > 2 ? { code: 1006, reason: "" } : await new Promise((resolve) => {
        this.#timer = setTimeout(() => resolve({ code: 1006, reason: "no close frame" }), CLOSE_TIMEOUT);
        ws.onerror = () => {};
        ws.onclose = resolve;
        ws.close(1000);
      });
      this.#detach();
      this.#tell(event, { code: event.code, reason: event.reason, willReconnect: false, retryIn: 0 });
    }
    _inbox._lost();
    while (_saver._busy) await _saver._busy;
    this.#set("closed");
  }
}
