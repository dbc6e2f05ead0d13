import { RequestError } from "./outbox.js";
/** @import { Entry } from "./outbox.js" */
/** @import { Frame } from "./types.js" */

/** A streamed answer: an async iterator of its parts. Leaving the loop early cancels it. */
export class Chat {
  #cancel;
  /** @type {string[]} Parts that have not been read; the server ends an answer after 8,000 characters. */
  #parts = [];
  #received = "";
  /** @type {Frame | RequestError | undefined} */
  #end;
  #wake = () => {};
  /** @type {Promise<void> | undefined} */
  #done;
  /** The `ref` of the question. */
  ref = "";

  /**
   * @param {() => Promise<boolean>} cancel Stops the question.
   * @internal
   */
  constructor(cancel) {
    this.#cancel = cancel;
  }

  /**
   * @param {Entry} entry The question.
   * @internal
   */
  _follow(entry) {
    this.ref = entry.ref;
    this.#done = entry.outcome.then((outcome) => {
      this.#end = outcome.status === "answered" ? outcome.reply : failure(outcome);
      // The built-in responder sends no parts.
      if (!this.#received && !(this.#end instanceof RequestError) && this.#end.message) this.#parts.push(this.#end.message);
      this.#wake();
    });
  }

  /**
   * @param {string} text The next part.
   * @internal
   */
  _push(text) {
    this.#received += text;
    this.#parts.push(text);
    this.#wake();
  }

  /** Whether the question was stopped: by `cancel`, or with the conversation. */
  get cancelled() {
    return this.#end instanceof RequestError ? this.#end.code === "cancelled" : this.#end?.type === "chat_cancelled";
  }

  /**
   * Stops the question. The iterator ends after the parts that have arrived.
   * @returns {Promise<boolean>} Whether it was still being answered.
   */
  cancel() {
    return this.#end ? Promise.resolve(false) : this.#cancel();
  }

  /**
   * Waits for the whole answer, which replaces the parts.
   * @returns {Promise<string>} The text; what has arrived of it where the question was stopped. Rejects with a `RequestError` if it fails.
   */
  async text() {
    await this.#done;
    if (this.cancelled) return this.#received;
    if (this.#end instanceof RequestError) throw this.#end;
    return /** @type {Frame} */ (this.#end).message;
  }

  /**
   * The parts, as they arrive. Throws a `RequestError` if the answer fails.
   * @returns {AsyncGenerator<string, void, void>} The iterator.
   */
  async *[Symbol.asyncIterator]() {
    try {
      for (;;) {
        while (this.#parts.length) yield /** @type {string} */ (this.#parts.shift());
        if (this.#end) break;
        await new Promise((wake) => (this.#wake = () => wake(undefined)));
      }
      if (this.#end instanceof RequestError && !this.cancelled) throw this.#end;
    } finally {
      // Where the loop was left early.
      if (!this.#end) await this.cancel();
    }
  }
}

/**
 * Makes an error of an outcome.
 * @param {Exclude<import("./types.js").Outcome, {status: "answered"}>} outcome The outcome.
 */
export function failure(outcome) {
  const { reason } = outcome;
  if (reason === "refused") return new RequestError(outcome.code, outcome.message);
  return new RequestError(/expired|unanswered/.test(reason) ? "timeout" : reason);
}
