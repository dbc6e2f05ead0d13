// The page's live data: one WebSocket to /ws/console/, which the views subscribe to. It comes back by itself, and it is the first to
// notice that the server is gone.
import { effect, signal, untracked, useEffect, useRef } from "../vendor/preact.js";
import { get, me, reachable, url } from "./api.js";

/** @typedef {"overview" | "connections" | "receipts" | "traffic"} Topic */
/** @typedef {Record<string, any>} Frame A frame of the server, as docs/protocol.md describes it. */
/** @typedef {(frame: Frame) => void} Listener */

/** The state: `off` without a session, `open` once the server has greeted, `connecting` meanwhile, `refused` where it takes no more. */
export const state = signal(/** @type {"off" | "connecting" | "open" | "refused"} */ ("off"));
/** What the server said when it greeted. @type {import("@preact/signals").Signal<{version?: string, role?: string, console_contents?: boolean}>} */
export const hello = signal({});

const PROTOCOL = "qy-lty.console.v1";
const PING_MS = 10_000;
const PONG_MS = 5_000;
const FIRST_RETRY_MS = 250;
const LAST_RETRY_MS = 5_000;
/** A server that takes no further pages of this kind is asked again after so long. */
const REFUSED_RETRY_MS = 30_000;

/** @type {Map<Topic, {filter: any, listeners: Set<Listener>}>} */
const topics = new Map();
/** @type {WebSocket | null} */
let socket = null;
/** @type {ReturnType<typeof setTimeout> | undefined} */
let retryTimer;
/** @type {ReturnType<typeof setInterval> | undefined} */
let pingTimer;
/** @type {ReturnType<typeof setTimeout> | undefined} */
let pongTimer;
let retry = FIRST_RETRY_MS;

/** @param {any} frame */
function send(frame) {
  if (socket?.readyState === WebSocket.OPEN && state.value === "open") socket.send(JSON.stringify(frame));
}

/** @param {Topic} topic */
function ask(topic) {
  const filter = topics.get(topic)?.filter;
  send(filter ? { type: "subscribe", topic, filter } : { type: "subscribe", topic });
}

/** Whether the server answers at all; that of a WebSocket which does not open is not told apart by the browser. */
async function probe() {
  try {
    await fetch(url("/healthz"), { cache: "no-store", signal: AbortSignal.timeout(PONG_MS) });
    reachable.value = true;
  } catch {
    reachable.value = false;
  }
  return reachable.value;
}

function connect() {
  clearTimeout(retryTimer);
  if (!me.value || socket) return;
  if (state.value !== "refused") state.value = "connecting";
  const where = url("/ws/console/");
  where.protocol = where.protocol.replace("http", "ws");
  const made = new WebSocket(where, PROTOCOL);
  socket = made;
  made.onmessage = ({ data }) => {
    if (socket === made) receive(JSON.parse(data));
  };
  made.onclose = () => {
    if (socket === made) lost();
  };
  clearInterval(pingTimer);
  pingTimer = setInterval(() => {
    send({ type: "ping" });
    clearTimeout(pongTimer);
    if (state.value === "open") pongTimer = setTimeout(() => drop(made), PONG_MS);
  }, PING_MS);
}

/** Gives up a connection that does not answer. @param {WebSocket} which */
function drop(which) {
  if (socket !== which) return;
  which.onclose = null;
  which.close();
  lost();
}

async function lost() {
  const wasOpen = state.value === "open";
  socket = null;
  clearInterval(pingTimer);
  clearTimeout(pongTimer);
  if (!me.value) {
    state.value = "off";
    return;
  }
  state.value = "connecting";
  const answers = await probe();
  if (!me.value || socket) return;
  // It answers, and yet there is no connection: it takes no more of them, a proxy is in the way, or the session has ended.
  const refused = answers && !wasOpen;
  if (refused) {
    state.value = "refused";
    get("/api/auth/me").catch(() => {}); // signs the page out where the session has ended
  }
  retryTimer = setTimeout(connect, refused ? REFUSED_RETRY_MS : retry);
  retry = Math.min(retry * 1.6, LAST_RETRY_MS);
}

/** @param {Frame} frame */
function receive(frame) {
  if (frame.type === "hello") {
    hello.value = frame;
    state.value = "open";
    reachable.value = true;
    retry = FIRST_RETRY_MS;
    for (const topic of topics.keys()) ask(topic);
    return;
  }
  if (frame.type === "pong") {
    clearTimeout(pongTimer);
    return;
  }
  const topic = /** @type {Topic} */ (frame.topic ?? frame.type);
  for (const listener of topics.get(topic)?.listeners ?? []) listener(frame);
}

/**
 * Subscribes to a topic. The listener gets each frame of it: `overview`, `connections`, `receipts`, `traffic`, and `lost`, `error` and
 * `subscribed` with that topic. After a reconnection the server is asked again. One filter is in force for a topic: the last that was asked for.
 * @param {Topic} topic
 * @param {Record<string, any> | null} filter
 * @param {Listener} listener
 * @returns {() => void} ends the subscription
 */
export function subscribe(topic, filter, listener) {
  const present = topics.get(topic) ?? { filter: null, listeners: new Set() };
  present.filter = filter;
  present.listeners.add(listener);
  topics.set(topic, present);
  ask(topic);
  return () => {
    present.listeners.delete(listener);
    if (present.listeners.size || topics.get(topic) !== present) return;
    topics.delete(topic);
    send({ type: "unsubscribe", topic });
  };
}

/**
 * Subscribes for as long as a component is shown; again when the filter changes. `null` instead of a topic subscribes to nothing.
 * @param {Topic | null} topic
 * @param {Record<string, any> | null} filter
 * @param {Listener} listener the latest one is called
 */
export function useLive(topic, filter, listener) {
  const latest = useRef(listener);
  latest.current = listener;
  const key = JSON.stringify(filter);
  useEffect(() => (topic ? subscribe(topic, filter, (frame) => latest.current(frame)) : undefined), [topic, key]);
}

/**
 * Runs `work` now and every `ms` while the component is shown, the page is visible and the server answers.
 * @param {() => any} work
 * @param {number} ms
 * @param {any[]} [inputs] runs anew when one of them changes
 */
export function usePoll(work, ms, inputs = []) {
  const latest = useRef(work);
  latest.current = work;
  useEffect(() => {
    latest.current();
    const timer = setInterval(() => {
      if (!document.hidden && reachable.value) latest.current();
    }, ms);
    return () => clearInterval(timer);
  }, inputs);
}

/** Keeps the connection while somebody is signed in. Called once, by the page. */
export function start() {
  effect(() => {
    const user = me.value?.id;
    untracked(() => {
      clearTimeout(retryTimer);
      const old = socket;
      socket = null;
      old?.close();
      state.value = "off";
      if (user !== undefined) connect();
    });
  });
  // While the server does not answer it is asked every second, also without a session.
  let probing = false;
  setInterval(async () => {
    if (reachable.value || probing) return;
    probing = true;
    const answers = await probe();
    probing = false;
    if (answers) again();
  }, 1000);
  addEventListener("online", () => { probe().then((answers) => { if (answers) again(); }); });
  addEventListener("offline", () => { reachable.value = false; });
  document.addEventListener("visibilitychange", () => { if (!document.hidden && me.value && state.value !== "open") again(); });
}

/** Connects at once instead of after the pause. */
function again() {
  retry = FIRST_RETRY_MS;
  if (!socket) connect();
}
