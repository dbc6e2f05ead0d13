/** @import { Frame } from "./types.js" */

/** An `ack` covers at most so many messages; 256 KiB of text count as much. The server sends 1,000 messages or 1 MiB ahead. */
const ACK_BATCH = 100;
const CHARS_PER_MESSAGE = 2621;
/** Milliseconds after which a handled message is acknowledged at the latest. */
const ACK_DELAY = 200;
/** Messages that may wait for handlers. With `ack: "client"` the server's window is smaller. */
const MAX_WAITING = 10000;

/** The queued messages between arrival and acknowledgement: in order, no repeats, a bounded number at a time. */
export class Inbox {
  /**
   * @param {object} host The connection.
   * @param {(frame: Frame | undefined) => Promise<void>} host._handle Runs the handler; never rejects.
   * @param {(frame: object) => void} host._send Writes a frame where there is a connection.
   * @param {() => unknown} host._save Saves the state.
   * @param {() => Promise<void>} host._saved Returns the end of the saves that the present state waits for; never rejects.
   * @param {(count: number) => void} host._overflow Reports messages that had to be dropped.
   * @param {{acks: boolean, concurrency: number}} settings Whether messages are acknowledged here, and the number handled at the same time.
   */
  constructor(host, settings) {
    this._host = host;
    this._settings = settings;
    /** @type {string | undefined} */
    this._epoch = undefined;
    /** Every message up to this id has been handled. */
    this._handled = 0;
    /** The highest id that was accepted. */
    this._seen = 0;
    /** The highest id on this connection: nothing above it may be acknowledged there. */
    this._here = 0;
    this._acked = 0;
    /** @type {{frame: Frame | undefined, id: number, weight: number, done: boolean}[]} Accepted and not yet handled in order; the first `_started` have been started. */
    this._entries = [];
    this._started = 0;
    this._running = 0;
    this._weight = 0;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this._timer = undefined;
  }

  /** @param {Frame} status The first event of a connection. */
  _opened(status) {
    if (this._epoch && status.epoch !== this._epoch) {
      // Ids of another epoch mean nothing here; what was received is still handled.
      this._handled = this._seen = 0;
      for (const entry of this._entries) entry.id = 0;
    }
    this._epoch = status.epoch;
    this._here = this._acked = status.last_id ?? 0;
  }

  /** @returns {string | undefined} The position for `since`. */
  _since() {
    return this._epoch && this._handled ? `${this._epoch}:${this._handled}` : undefined;
  }

  /**
   * Takes a message with an id.
   * @param {Frame | undefined} frame The message; none where it was a reply that nobody else shall have.
   * @param {number} id Its id.
   * @param {number} size Its length in characters.
   */
  _receive(frame, id, size) {
    this._here = Math.max(this._here, id);
    // Also of what an earlier connection has acknowledged: replayed, it takes room in the server's window.
    this._acked = Math.min(this._acked, id - 1);
    const weight = 1 + size / CHARS_PER_MESSAGE;
    if (id <= this._seen) {
      // Handled, or being handled; the acknowledgement was lost with the last connection.
      if (id <= this._handled) this._due(weight);
      return;
    }
    if (this._entries.length >= MAX_WAITING) return this._host._overflow(1);
    this._seen = id;
    this._entries.push({ frame, id, weight, done: false });
    this._pump();
  }

  /** Starts handlers. */
  _pump() {
    while (this._started < this._entries.length && this._running < this._settings.concurrency) {
      const entry = this._entries[this._started++];
      this._running++;
      this._host._handle(entry.frame).then(() => {
        this._running--;
        entry.done = true;
        this._advance();
        this._pump();
      });
    }
  }

  /** Moves the position past everything that is handled without a gap. */
  _advance() {
    let weight = 0;
    while (this._entries[0]?.done) {
      const entry = /** @type {(typeof this._entries)[0]} */ (this._entries.shift());
      this._started--;
      if (entry.id) this._handled = entry.id;
      weight += entry.weight;
    }
    if (!weight) return;
    // Before the acknowledgement: a message that is acknowledged and not saved would be handled again after a restart.
    this._host._save();
    this._due(weight);
  }

  /** @param {number} weight Of the messages that can be acknowledged now. */
  _due(weight) {
    if (!this._settings.acks) return;
    this._weight += weight;
    if (this._weight >= ACK_BATCH) this._ack();
    else this._timer ??= setTimeout(() => this._ack(), ACK_DELAY);
  }

  /** Acknowledges everything that is handled; once it is saved. */
  async _ack() {
    clearTimeout(this._timer);
    this._timer = undefined;
    this._weight = 0;
    const id = Math.min(this._handled, this._here);
    if (!this._settings.acks || id <= this._acked) return;
    const epoch = this._epoch;
    await this._host._saved();
    if (epoch !== this._epoch || id > this._here || id <= this._acked) return;
    this._acked = id;
    this._host._send({ type: "ack", message: { id } });
  }

  /** The connection has ended. */
  _lost() {
    clearTimeout(this._timer);
    this._timer = undefined;
    // Nothing is on this connection: an `ack` that waits for the store must not be sent on the next one.
    this._here = 0;
  }

  /** The client is closed: what has not been started is left to the next connection. */
  _close() {
    this._entries.length = this._started;
    this._seen = Math.max(this._handled, this._entries.at(-1)?.id ?? 0);
  }
}
