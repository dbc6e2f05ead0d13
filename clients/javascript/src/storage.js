/** @import { SavedState, Store, WebStorage } from "./types.js" */

/**
 * Makes a store of `localStorage` or `sessionStorage`. Each reader needs a key of its own, and only one client at a time may use it.
 * @param {WebStorage} storage The storage.
 * @param {string} [key] The key.
 * @returns {Store} The store.
 */
export function webStore(storage, key = "qy-lty") {
  return {
    load: () => JSON.parse(storage.getItem(key) ?? "null"),
    save: (state) => storage.setItem(key, JSON.stringify(state)),
  };
}

/** Saves states one after the other, and only the latest of those that wait. */
export class Saver {
  /**
   * @param {Store | undefined} store The store; nothing is saved without one.
   * @param {() => SavedState} state Returns the state of the moment.
   * @param {(state: SavedState) => void} restore Takes the state of an earlier process.
   * @param {(error: any) => void} failed Reports a fault of the store.
   */
  constructor(store, state, restore, failed) {
    this._store = store;
    this._state = state;
    this._failed = failed;
    /** @type {Promise<void> | undefined} The load or the save that is under way. */
    this._busy = undefined;
    this._dirty = false;
    if (store) this._run(() => store.load(), (loaded) => loaded && restore(loaded));
  }

  /** Saves the state, now or after the save that is under way. */
  _save() {
    const store = this._store;
    if (!store) return;
    this._dirty = !!this._busy;
    if (!this._busy) this._run(() => store.save(this._state()), () => {});
  }

  /** Waits until the state of this moment is saved; later ones may be waiting then. */
  async _saved() {
    const dirty = this._dirty;
    await this._busy;
    if (dirty) await this._busy;
  }

  /**
   * Runs a function of the store, which may be asynchronous.
   * @param {() => any} work The function.
   * @param {(result: any) => void} then Takes its result.
   */
  _run(work, then) {
    try {
      const result = work();
      if (!result?.then) return then(result);
      this._busy = result.then(then).catch(this._failed).then(() => {
        this._busy = undefined;
        if (this._dirty) this._save();
      });
    } catch (error) {
      // Not at once: in the constructor nobody listens yet.
      setTimeout(() => this._failed(error));
    }
  }
}
