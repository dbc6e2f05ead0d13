/**
 * A store in a file, for programs: Node, Bun and Deno.
 * @module
 */
import { readFileSync, renameSync, writeFileSync } from "node:fs";
/** @import { Store } from "./types.js" */

/**
 * Makes a store of a file. Each state is written to a file beside it, which then takes its place: a killed process leaves the state
 * before or after, never half of one. Only one client at a time may use it.
 * @param {string} path The file; its directory must exist.
 * @returns {Store} The store.
 */
export function fileStore(path) {
  return {
    load() {
      try {
        return JSON.parse(readFileSync(path, "utf8"));
      } catch (error) {
        if (/** @type {any} */ (error).code === "ENOENT") return null;
        // Told as an error, and kept for who wants to look: the next state takes its place.
        if (error instanceof SyntaxError) renameSync(path, `${path}.damaged`);
        throw error;
      }
    },
    save(state) {
      writeFileSync(`${path}.new`, JSON.stringify(state), { mode: 0o600 });
      renameSync(`${path}.new`, path);
    },
  };
}
