import { RequestError } from "./outbox.js";
/** @import { Entry } from "./outbox.js" */
/** @import { Frame } from "./types.js" */

/** A streamed answer: an async iterator of its parts. Leaving the loop early cancels it. */
export class Chat {
  /**
   * @param {() => Promise<boolean>} cancel Stops the question.
   */
  constructor(cancel) {
    this._cancel = cancel;
    /** @type {string[]} Parts that have not been read; the server ends an answer after 8,000 characters. */
    this._parts = [];
    this._any = false;
    /** @type {Frame | RequestError | undefined} */
    this._end = undefined;
    /** @type {() => void} */
    this._wake = () => {};
    /** @type {string} */
    this.ref = "";
  }

  /** @param {Entry} entry The question. */
  _follow(entry) {
    this.ref = entry.ref;
    this._done = entry.outcome.then((outcome) => {
      this._end = outcome.status === "answered" ? outcome.reply : failure(outcome);
      // The built-in responder sends no parts.
      if (!this._any && !(this._end instanceof RequestError) && this._end.message) this._parts.push(this._end.message);
      this._wake();
    });
  }

  /** @param {string} text The next part. */
  _push(text) {
    this._any = true;
    this._parts.push(text);
    this._wake();
  }

  /** Whether the question was stopped: by `cancel`, or with the conversation. */
  get cancelled() {
    return this._end instanceof RequestError ? this._end.code === "cancelled" : this._end?.type === "chat_cancelled";
  }

  /**
   * Stops the question. The iterator ends after the parts that have arrived.
   * @returns {Promise<boolean>} Whether it was still being answered.
   */
  cancel() {
    return this._end ? Promise.resolve(false) : this._cancel();
  }

  /**
   * Waits for the whole answer, which replaces the parts.
   * @returns {Promise<string>} The text; what has arrived of it where the question was stopped. Rejects with a `RequestError` if it fails.
   */
  async text() {
    await this._done;
    if (this.cancelled) return "";
    if (this._end instanceof RequestError) throw this._end;
    return /** @type {Frame} */ (this._end).message;
  }

  /**
   * The parts, as they arrive. Throws a `RequestError` if the answer fails.
   * @returns {AsyncGenerator<string, void, void>} The iterator.
   */
  async *[Symbol.asyncIterator]() {
    try {
      for (;;) {
        while (this._parts.length) yield /** @type {string} */ (this._parts.shift());
        if (this._end) break;
        await new Promise((wake) => (this._wake = () => wake(undefined)));
      }
      if (this._end instanceof RequestError && !this.cancelled) throw this._end;
    } finally {
      // Where the loop was left early.
      if (!this._end) await this.cancel();
    }
  }
}

/**
 * Makes an error of an outcome.
 * @param {Exclude<import("./types.js").Outcome, {status: "answered"}>} outcome The outcome.
 */
export function failure(outcome) {
  if (outcome.status === "stored") return new RequestError("closed");
  if (outcome.status === "dropped" && outcome.reason === "refused") return new RequestError(outcome.code, outcome.message);
  return new RequestError(outcome.reason === "expired" ? "timeout" : outcome.reason);
}
