// The receipts of messages, read again whenever they change or may have changed.
import { useEffect, useRef } from "../vendor/preact.js";
import { get } from "./api.js";
import { state, useLive, usePoll } from "./live.js";

/** What does not change any more. */
export const FINAL = new Set(["acked", "expired", "cancelled", "cleared", "undeliverable"]);

/** How long receipts that change are collected before they are read again. */
const SETTLE_MS = 100;
/** How often they are read where there are no live updates. */
const POLL_MS = 3000;
/** The most that are asked for at once. */
const AT_ONCE = 20;

let last = Promise.resolve();

/**
 * Reads receipts, one call after the other, so that no answer takes the place of a newer one.
 * @param {number[]} ids
 * @returns {Promise<Map<number, any>>} those that can be read
 */
export function readReceipts(ids) {
  const reading = last.then(async () => {
    const read = new Map();
    for (let at = 0; at < ids.length; at += AT_ONCE) {
      await Promise.all(ids.slice(at, at + AT_ONCE).map((id) => get(`/api/messages/${id}`).then(({ data }) => read.set(id, data), () => {})));
    }
    return read;
  });
  last = reading.then(() => {});
  return reading;
}

/**
 * Follows receipts while a component is shown. An event only says which receipt to read: of a client, it is not the message's. What was
 * missed before the subscription began, or while it was interrupted, is read then.
 * @param {(id: number) => boolean} wanted whether a message that changes is of interest
 * @param {() => number[]} open the messages that are shown and may still change
 * @param {(read: Map<number, any>) => void} onRead
 */
export function useReceipts(wanted, open, onRead) {
  const latest = useRef(onRead);
  latest.current = onRead;
  const changed = useRef(/** @type {Set<number>} */ (new Set()));
  const timer = useRef(/** @type {ReturnType<typeof setTimeout> | undefined} */ (undefined));
  const read = () => {
    timer.current = undefined;
    const ids = [...changed.current];
    changed.current.clear();
    if (ids.length) readReceipts(ids).then((found) => latest.current(found));
  };
  useEffect(() => () => clearTimeout(timer.current), []);
  useLive("receipts", null, (frame) => {
    const ids = frame.type === "receipts" ? frame.items.map((/** @type {any} */ item) => item.id).filter(wanted) : open();
    for (const id of ids) changed.current.add(id);
    if (ids.length && timer.current === undefined) timer.current = setTimeout(read, SETTLE_MS);
  });
  usePoll(() => {
    if (state.value === "open") return;
    for (const id of open()) changed.current.add(id);
    read();
  }, POLL_MS);
}
