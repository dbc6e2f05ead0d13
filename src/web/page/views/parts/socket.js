// A client's WebSocket, by a ticket of the session: it comes back by itself unless the server says that there is no point.
import { useEffect, useRef, useState } from "../../lib/ui.js";
import { errorText, post, url } from "../../lib/api.js";

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
const FIRST_RETRY_MS = 500;
const LAST_RETRY_MS = 15_000;

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
 * @param {Record<string, string | number | undefined>} query of the WebSocket's address, without the credential; another one connects anew
 * @param {boolean} wanted
 */
export function useSocket(query, wanted) {
  const [state, setState] = useState(/** @type {"off" | "connecting" | "open" | "waiting"} */ ("off"));
  const [log, setLog] = useState(/** @type {Entry[]} */ ([]));
  const held = useRef({ socket: /** @type {WebSocket | null} */ (null), n: 0, fresh: /** @type {Entry[]} */ ([]), said: "", timer: /** @type {any} */ (0), waits: new Map() });
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
    if (!wanted) {
      setState("off");
      return undefined;
    }
    let over = false;
    let retry = FIRST_RETRY_MS;
    let retryAfter = 0;
    let hopeless = false;
    /** @type {any} */
    let timer;
    const again = () => {
      own.socket = null;
      if (over) return;
      if (hopeless) {
        setState("off");
        return;
      }
      setState("waiting");
      timer = setTimeout(connect, retryAfter || retry * (1 + Math.random() / 2));
      retryAfter = 0;
      retry = Math.min(retry * 2, LAST_RETRY_MS);
    };
    const connect = async () => {
      setState("connecting");
      try {
        const { data } = await post("/api/auth/ticket");
        if (over) return;
        const where = url("/ws/device/", { ...query, ticket: data.ticket });
        where.protocol = where.protocol.replace("http", "ws");
        const socket = new WebSocket(where);
        own.socket = socket;
        socket.onopen = () => {
          if (over) return;
          setState("open");
          note({ direction: "note", type: "open", text: "" });
        };
        socket.onmessage = ({ data: text }) => {
          if (over || typeof text !== "string") return;
          const value = parse(text);
          if (value?.type === "disconnect") {
            hopeless = value.reconnect === false;
            retryAfter = (value.retry_after ?? 0) * 1000;
          }
          if (value?.type === "connection_status") retry = FIRST_RETRY_MS;
          note({ direction: "in", type: value?.type ?? "?", text, value });
          own.waits.get(value?.id)?.();
        };
        socket.onclose = ({ code, reason }) => {
          if (own.socket !== socket) return;
          note({ direction: "note", type: "closed", text: reason, code });
          again();
        };
      } catch (error) {
        if (over) return;
        note({ direction: "note", type: "failed", text: errorText(error) });
        again();
      }
    };
    connect();
    return () => {
      over = true;
      clearTimeout(timer);
      const socket = own.socket;
      own.socket = null;
      if (socket) {
        socket.onclose = null;
        socket.close(1000);
        note({ direction: "note", type: "left", text: "" });
      }
    };
  }, [JSON.stringify(query), wanted]);
  useEffect(() => () => clearTimeout(own.timer), []);

  return {
    state,
    log,
    clear: () => setLog([]),
    /** @param {string} text @returns {boolean} whether it could be sent */
    send: (text) => {
      if (own.socket?.readyState !== WebSocket.OPEN) return false;
      own.socket.send(text);
      const value = parse(text);
      note({ direction: "out", type: value?.type ?? "?", text, value });
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
