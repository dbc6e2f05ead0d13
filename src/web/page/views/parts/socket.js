// A client by a ticket of the session, that of the package in clients/javascript, with all that it sends and receives.
import { useEffect, useRef, useState } from "../../lib/ui.js";
import { errorText, post, url } from "../../lib/api.js";
import { DeviceWebSocketClient } from "../../vendor/qy-lty-client.js";

/**
 * @typedef {object} Entry A line of the log: a frame, or what became of the connection.
 * @property {number} n
 * @property {number} at in milliseconds
 * @property {"in" | "out" | "note"} direction
 * @property {string} type of the frame, or the kind of note: `open`, `closed`, `failed`
 * @property {string} text as it was sent
 * @property {any} [value] what it is as JSON
 * @property {number} [code] of a close
 */

/** The most entries that are kept. */
const MOST = 300;
/** Frames that arrive together are shown together. */
const SHOW_MS = 50;
/** What is shown of a client's state; else it is off. @type {Record<string, "connecting" | "open" | "waiting">} */
const STATES = { connecting: "connecting", connected: "open", waiting: "waiting" };

/** @param {string} text */
function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/**
 * Connects while the component is shown.
 * @param {{peek?: boolean, client?: string, byHand?: boolean}} settings other ones connect anew; `byHand`: the client acknowledges nothing
 * @param {boolean} wanted
 */
export function useSocket(settings, wanted) {
  const [state, setState] = useState(/** @type {"off" | "connecting" | "open" | "waiting"} */ ("off"));
  const [log, setLog] = useState(/** @type {Entry[]} */ ([]));
  const held = useRef({ client: /** @type {DeviceWebSocketClient | null} */ (null), n: 0, fresh: /** @type {Entry[]} */ ([]), said: "", timer: /** @type {any} */ (0), waits: new Map() });
  const own = held.current;

  /** @param {Omit<Entry, "n" | "at">} entry */
  const note = (entry) => {
    // A server that stays away is worth one line.
    if (entry.type === "failed" && own.said === entry.text) return;
    own.said = entry.type === "failed" ? entry.text : "";
    own.n += 1;
    own.fresh.push({ ...entry, n: own.n, at: Date.now() });
    own.timer ||= setTimeout(() => {
      own.timer = 0;
      const fresh = own.fresh.reverse();
      own.fresh = [];
      setLog((before) => [...fresh, ...before].slice(0, MOST));
    }, SHOW_MS);
  };

  useEffect(() => {
    setState("off");
    if (!wanted) return undefined;
    let over = false;
    let failed = false;
    /** @param {Omit<Entry, "n" | "at">} entry */
    const see = (entry) => { if (!over) note(entry); };
    // Every frame is shown as it is on the wire, those of the client itself, too.
    class Watched extends WebSocket {
      /** @param {string} where @param {string[]} protocols */
      constructor(where, protocols) {
        super(where, protocols);
        this.addEventListener("open", () => see({ direction: "note", type: "open", text: "" }));
        this.addEventListener("message", ({ data: text }) => {
          const value = parse(text);
          see({ direction: "in", type: value?.type ?? "?", text, value });
          own.waits.get(value?.id)?.();
        });
      }

      /** @param {string} text */
      send(text) {
        super.send(text);
        const value = parse(text);
        see({ direction: "out", type: value?.type ?? "?", text, value });
      }
    }
    const { byHand, ...others } = settings;
    const client = new DeviceWebSocketClient("", String(url("/")), {
      ...others, WebSocket: Watched, concurrency: Infinity, heartbeatSeconds: 0, backOff: { first: 0.5, most: 15 },
      ticket: async () => (await post("/api/auth/ticket")).data.ticket,
    });
    own.client = client;
    // What is never handled is not acknowledged, but by hand.
    if (byHand) client.on("message", () => new Promise(() => {}));
    client.on("state", (now) => {
      if (over) return;
      failed &&= now !== "connecting";
      setState(STATES[now] ?? "off");
    });
    client.on("error", (error) => {
      if (!(error instanceof Error)) return;
      failed = true;
      see({ direction: "note", type: "failed", text: errorText(error) });
    });
    client.on("disconnected", ({ code, reason }) => { if (!failed) see({ direction: "note", type: "closed", text: reason, code }); });
    client.connect();
    return () => {
      if (client.state === "connected") see({ direction: "note", type: "left", text: "" });
      over = true;
      own.client = null;
      client.disconnect();
    };
  }, [JSON.stringify(settings), wanted]);
  useEffect(() => () => clearTimeout(own.timer), []);

  return {
    state,
    log,
    clear: () => setLog([]),
    /** @param {string} text @returns {boolean} whether it could be sent */
    send: (text) => {
      const { client } = own;
      if (client?.state !== "connected") return false;
      client.ws.send(text);
      return true;
    },
    /**
     * Waits for the message of that id.
     * @param {number} id
     * @param {number} ms
     * @returns {Promise<boolean>} whether it has come
     */
    arrival: (id, ms) => new Promise((done) => {
      if ([...own.fresh, ...log].some(({ value }) => value?.id === id)) {
        done(true);
        return;
      }
      const end = (/** @type {boolean} */ came) => { clearTimeout(timer); own.waits.delete(id); done(came); };
      const timer = setTimeout(() => end(false), ms);
      own.waits.set(id, () => end(true));
    }),
  };
}
