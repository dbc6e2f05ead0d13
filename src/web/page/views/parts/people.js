// Users and devices by name: links to them, and fields to choose one in.
import { html, signal, useId, useState } from "../../lib/ui.js";
import { ApiError, all, get } from "../../lib/api.js";
import { t } from "../../lib/i18n.js";
import { link } from "../../lib/router.js";

/** The most suggestions below a field. */
const MAX_SUGGESTIONS = 1000;

/**
 * Things that lists mention by id, read as they are needed, several in one request.
 * @param {string} path
 */
function directory(path) {
  /** `null` is one that does not exist. @type {Map<number, any>} */
  const known = new Map();
  /** @type {Set<number>} */
  const wanted = new Set();
  const version = signal(0);
  let reading = false;

  async function read() {
    if (reading) return;
    reading = true;
    await Promise.resolve(); // the whole list has been drawn by now
    try {
      while (wanted.size) {
        const ids = [...wanted].sort((a, b) => a - b).slice(0, 200);
        const { data } = await get(path, { after: ids[0] - 1, limit: Math.min(1000, Math.max(20, ids[ids.length - 1] - ids[0] + 1)) });
        const end = data.length ? data[data.length - 1].id : Infinity;
        for (const row of data) known.set(row.id, row);
        for (const id of ids) {
          if (id > end) continue;
          if (!known.has(id)) known.set(id, null);
          wanted.delete(id);
        }
        version.value += 1;
      }
    } catch {
      wanted.clear(); // the numbers stay on the page
    } finally {
      reading = false;
    }
  }

  return {
    /**
     * The thing, if it is known; else it is read, and what shows it is drawn again.
     * @param {number} id
     * @returns {any}
     */
    of(id) {
      version.value; // eslint-disable-line no-unused-expressions -- subscribes
      if (!known.has(id) && !wanted.has(id)) {
        wanted.add(id);
        read();
      }
      return known.get(id) ?? undefined;
    },
    /** @param {any[]} rows that another request has read */
    keep(rows) {
      for (const row of rows) known.set(row.id, row);
    },
    /** @param {number} id of something that has changed */
    forget(id) {
      known.delete(id);
    },
  };
}

/** The users, for administrators. */
export const users = directory("/api/users");
/** The devices. */
export const devices = directory("/api/devices");

/**
 * A user's name, which leads to the user.
 * @param {{id: number, name?: string | null}} props
 */
export function UserLink({ id, name }) {
  return html`<a href=${link("users", id)}><bdi>${name ?? users.of(id)?.username ?? `#${id}`}</bdi></a>`;
}

/**
 * A device's name, which leads to the device.
 * @param {{id: number, name?: string | null}} props
 */
export function DeviceLink({ id, name }) {
  return html`<a href=${link("devices", id)}><bdi>${name ?? devices.of(id)?.name ?? `#${id}`}</bdi></a>`;
}

/** @param {string} text */
const numbered = (text) => /^(?:#|id:)?(\d{1,15})$/.exec(text);

/**
 * Returns the user that a field names: by name, or by number (`#7`).
 * @param {string} text
 * @returns {Promise<any>}
 * @throws {ApiError} where there is none
 */
export async function findUser(text) {
  const number = numbered(text);
  if (!text.startsWith("#")) {
    const { data } = await get("/api/users", { username: text });
    if (data.length) return data[0];
  }
  if (number) return existing(`/api/users/${number[1]}`, t("users.notFound", { name: text }));
  throw new ApiError(404, { message: t("users.notFound", { name: text }) });
}

/**
 * Returns the device that a field names: by number (`#3`, with or without the name), or by a name that only one has.
 * @param {string} text
 * @returns {Promise<any>}
 * @throws {ApiError} where there is none
 */
export async function findDevice(text) {
  const number = /^#(\d{1,15})\b/.exec(text) ?? numbered(text);
  if (number) return existing(`/api/devices/${number[1]}`, t("devices.notFound", { name: text }));
  const found = (await all("/api/devices")).filter((device) => device.name === text || device.serial === text);
  if (found.length === 1) return found[0];
  throw new ApiError(404, { message: t(found.length ? "devices.ambiguous" : "devices.notFound", { name: text }) });
}

/**
 * @param {string} path
 * @param {string} message
 */
async function existing(path, message) {
  try {
    return (await get(path)).data;
  } catch (error) {
    throw error instanceof ApiError && error.status === 404 ? new ApiError(404, { message }) : error;
  }
}

/**
 * The attributes of a field that names a user or device, and its suggestions, which are read when it gets the focus.
 * @param {"users" | "devices"} what
 * @returns {{input: Record<string, any>, list: any}}
 */
export function useSuggestions(what) {
  const id = useId();
  const [rows, setRows] = useState(/** @type {any[]} */ ([]));
  const read = async () => {
    if (rows.length) return;
    const { data } = await get(what === "users" ? "/api/users" : "/api/devices", { limit: MAX_SUGGESTIONS }).catch(() => ({ data: [] }));
    (what === "users" ? users : devices).keep(data);
    setRows(data);
  };
  const shown = (/** @type {any} */ row) => (what === "users" ? row.username : `#${row.id} ${row.name}`);
  return {
    input: { list: id, onFocus: read, autocomplete: "off", spellcheck: false, maxlength: 150 },
    list: html`<datalist id=${id}>${rows.map((row) => html`<option key=${row.id} value=${shown(row)} />`)}</datalist>`,
  };
}
