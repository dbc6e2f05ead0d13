/** @import { Frame, Outcome, Send } from "./types.js" */

/** The most times that a send with `retry` is written. */
const MAX_TRIES = 10;
/** Bytes that may wait in the socket; further sends wait in the queue, where they have a bound and an outcome. */
const MAX_BUFFERED = 1 << 20;
/** The server's usual bound of a frame, in bytes. */
const MAX_FRAME = 65536;
/** Requests without a reply whose late replies are recognised, and dropped. */
const MAX_FORGOTTEN = 256;

/** A request that failed: `code` is the server's, or `timeout`, `disconnected`, `closed`, `full`, `cancelled`. */
export class RequestError extends Error {
  /**
   * @param {string} code The code for programs.
   * @param {string} [message] The text for people.
   */
  constructor(code, message) {
    super(message ?? `request failed: ${code}`);
    this.name = "RequestError";
    this.code = code;
  }
}

/** A send in the outbox; the fields with `_` are the package's own. */
export class Entry {
  /**
   * @param {string} ref Its `ref`.
   * @param {string} text Its frame.
   */
  constructor(ref, text) {
    this.ref = ref;
    /** @type {Send["status"]} */
    this.status = "queued";
    this._text = text;
    this._tries = 0;
    this._retry = false;
    /** Set where the caller takes the reply itself, and the send dies with its process. */
    this._private = false;
    /** @type {number | undefined} The time at which it expires, in milliseconds since 1970. */
    this._until = undefined;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this._timer = undefined;
    /** @type {((frame: Frame) => boolean) | undefined} Takes a frame with its `ref`; returns whether more will follow. */
    this._onframe = undefined;
    /** @type {(outcome: Outcome) => void} */
    this._resolve = () => {};
    /** @type {Promise<Outcome>} */
    this.outcome = new Promise((resolve) => (this._resolve = resolve));
  }

  /** @param {Outcome} outcome Its end. */
  _settle(outcome) {
    clearTimeout(this._timer);
    this.status = outcome.status;
    this._resolve(outcome);
  }
}

/** The sends that wait and those without a reply yet: a queue with a bound, a pace, and an outcome for each. */
export class Outbox {
  /**
   * @param {object} host The connection.
   * @param {(text: string) => boolean} host._write Writes a frame; false without a connection.
   * @param {() => number} host._buffered Bytes that wait in the socket.
   * @param {() => boolean} host._gone Whether the client stays away.
   * @param {() => unknown} host._save Saves the state, where it is persistent.
   * @param {{limit: number, perMinute: number, timeout: number, persistent: boolean}} settings Bounds; `timeout` in seconds.
   */
  constructor(host, settings) {
    this._host = host;
    this._settings = settings;
    /** @type {Entry[]} */
    this._queue = [];
    /** @type {Map<string, Entry>} Written and unanswered, in that order. */
    this._flying = new Map();
    /** @type {Set<string>} */
    this._forgotten = new Set();
    this._prefix = Math.random().toString(36).slice(2, 10);
    this._count = 0;
    this._allowance = settings.perMinute;
    this._filled = Date.now();
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this._timer = undefined;
  }

  /**
   * Puts a send into the queue, and writes it at once where that is possible.
   * @param {string} type The type.
   * @param {any} message The content.
   * @param {{retry?: boolean, target?: any, ttl?: number, timeout?: number}} options `ttl` and `timeout` in seconds.
   * @param {(frame: Frame) => boolean} [onframe] Takes the frames with its `ref`, for a caller who waits for them.
   */
  _add(type, message, options, onframe) {
    const ref = `${this._prefix}-${++this._count}`;
    const { retry = false, target, ttl, timeout } = options;
    const entry = new Entry(ref, JSON.stringify({ type, message, timestamp: new Date().toISOString(), ref, target }));
    entry._retry = retry;
    entry._onframe = onframe;
    entry._private = !!onframe;
    const full = this._queue.length + this._flying.size >= this._settings.limit;
    if (full || this._host._gone()) {
      entry._settle(full ? { status: "dropped", reason: "full" } : { status: "dropped", reason: "closed", stored: false });
      return entry;
    }
    if (ttl) entry._until = Date.now() + ttl * 1000;
    this._deadline(entry, onframe ? timeout ?? this._settings.timeout : ttl);
    this._queue.push(entry);
    this._flush() || this._changed(entry);
    return entry;
  }

  /**
   * Starts the clock of an entry anew.
   * @param {Entry} entry The entry.
   * @param {number | undefined} seconds Its time; none without.
   */
  _deadline(entry, seconds) {
    clearTimeout(entry._timer);
    if (seconds) entry._timer = setTimeout(() => this._remove(entry, "expired"), Math.min(seconds * 1000, 2 ** 31 - 1));
  }

  /**
   * Ends an entry without a reply.
   * @param {Entry} entry The entry.
   * @param {"expired" | "cancelled"} reason The reason, where it was not written.
   */
  _remove(entry, reason) {
    const at = this._queue.indexOf(entry);
    if (at >= 0) this._queue.splice(at, 1);
    if (this._flying.delete(entry.ref) && entry._private) {
      const { _forgotten } = this;
      _forgotten.add(entry.ref);
      if (_forgotten.size > MAX_FORGOTTEN) _forgotten.delete([..._forgotten][0]);
    }
    entry._settle(at >= 0 ? { status: "dropped", reason } : { status: "sent", reason: "unanswered" });
    this._changed(entry);
  }

  /** @param {Entry} entry An entry that has come or gone. */
  _changed(entry) {
    if (!entry._private) this._host._save();
  }

  /** Writes as much as the pace allows; returns whether anything was written. */
  _flush() {
    let wrote = false;
    clearTimeout(this._timer);
    while (this._queue.length) {
      const wait = this._wait();
      if (wait) {
        this._timer = setTimeout(() => this._flush(), wait);
        break;
      }
      const [entry] = this._queue;
      // One that the store keeps has no timer while the client is closed.
      if (entry._until && entry._until <= Date.now()) {
        this._remove(entry, "expired");
        continue;
      }
      if (!this._host._write(entry._text)) break;
      this._queue.shift();
      this._allowance--;
      wrote = true;
      entry.status = "sent";
      entry._tries++;
      this._flying.set(entry.ref, entry);
      if (!entry._private) this._deadline(entry, this._settings.timeout);
    }
    if (wrote) this._host._save();
    return wrote;
  }

  /** Returns the milliseconds until another frame may be written. */
  _wait() {
    const rate = this._settings.perMinute / 60000;
    const now = Date.now();
    if (rate) {
      // A clock that was set back gives nothing, and takes nothing.
      this._allowance = Math.min(this._settings.perMinute, this._allowance + Math.max(0, now - this._filled) * rate);
      this._filled = now;
      if (this._allowance < 1) return Math.ceil((1 - this._allowance) / rate);
    }
    return this._host._buffered() > MAX_BUFFERED ? 500 : 0;
  }

  /**
   * Takes a frame with a `ref`.
   * @param {Frame} frame The frame.
   * @returns {boolean} Whether it was for a caller alone.
   */
  _reply(frame) {
    const entry = this._flying.get(/** @type {string} */ (frame.ref));
    if (!entry) return this._forgotten.has(/** @type {string} */ (frame.ref));
    if (frame.type === "error" && frame.code === "RATE_LIMITED") {
      this._again([...this._flying.values()].slice([...this._flying.keys()].indexOf(entry.ref)));
      this._allowance = 0;
      return true;
    }
    if (entry._onframe?.(frame)) {
      return true;
    }
    this._flying.delete(entry.ref);
    entry._settle(frame.type === "error" ? { status: "dropped", reason: "refused", code: frame.code, message: frame.message } : { status: "answered", reply: frame });
    if (entry._retry) this._changed(entry);
    return entry._private;
  }

  /**
   * Puts entries that the server has not processed back to the front of the queue.
   * @param {Entry[]} entries Those entries, in order.
   */
  _again(entries) {
    for (const entry of entries) {
      this._flying.delete(entry.ref);
      entry.status = "queued";
      if (!entry._private) this._deadline(entry, entry._until && Math.max(1, entry._until - Date.now()) / 1000);
    }
    this._queue.unshift(...entries);
  }

  /**
   * The connection has ended.
   * @param {number} code The close code.
   */
  _lost(code) {
    clearTimeout(this._timer);
    const again = [];
    for (const entry of [...this._flying.values()]) {
      // A frame that is too big closes the connection each time. The server counts bytes: a character has three at most.
      const big = code === 1009 && entry._text.length * 3 > MAX_FRAME;
      if (entry._retry && !big && entry._tries < MAX_TRIES) {
        again.push(entry);
        continue;
      }
      this._flying.delete(entry.ref);
      entry._settle(big ? { status: "dropped", reason: "refused", code: "1009", message: "message too big" } : { status: "sent", reason: "disconnected" });
    }
    this._again(again);
    this._host._save();
  }

  /** The client is closed: nothing waits any more, but for what a persistent store has. */
  _close() {
    this._lost(1000);
    this._queue = this._queue.filter((entry) => {
      const stored = this._settings.persistent && !entry._private;
      entry._settle({ status: "dropped", reason: "closed", stored });
      return stored;
    });
  }

  /** Returns the sends that outlive the process. */
  _state() {
    const flying = [...this._flying.values()].filter((entry) => entry._retry);
    return [...flying, ...this._queue].filter((entry) => !entry._private)
      .map(({ ref, _text, _retry, _until }) => ({ ref, text: _text, retry: _retry, until: _until }));
  }

  /**
   * Puts the sends of an earlier process in front of the queue.
   * @param {{ref: string, text: string, retry?: boolean, until?: number}[]} saved Those sends.
   */
  _restore(saved) {
    const now = Date.now();
    this._queue.unshift(...saved.filter(({ until }) => !until || until > now).slice(0, this._settings.limit).map(({ ref, text, retry, until }) => {
      const entry = new Entry(ref, text);
      entry._retry = !!retry;
      entry._until = until;
      this._deadline(entry, until && (until - now) / 1000);
      return entry;
    }));
  }
}
