// The live connections: thousands of them as they come and go, by user, device, client and address.
import { Badge, Button, Callout, Card, Empty, Failed, Icon, Loading, Page, Search, Select, Table, Time, html, useEffect, useMemo, useRef, useState } from "../lib/ui.js";
import { ApiError, del, get } from "../lib/api.js";
import { number, t } from "../lib/i18n.js";
import { state, useLive } from "../lib/live.js";
import { link, setQuery } from "../lib/router.js";
import { DeviceLink, UserLink, findDevice, findUser } from "./parts/people.js";
import { Narrow } from "./parts/narrow.js";
import { visible, whileVisible } from "./parts/visible.js";

/** What connections can be filtered by, as the API names it. @type {("user_id" | "device_id" | "client" | "address")[]} */
const FILTERS = ["user_id", "device_id", "client", "address"];
/** The most connections that the page holds; of more, a filter shows what is looked for. */
const MOST = 10_000;
const POLL_MS = 5000;

/**
 * @typedef {object} Held
 * @property {Map<number, any>} rows by id
 * @property {number} total of the server, within the filter
 * @property {boolean} complete whether all of them have been read
 */

/**
 * The connections as they are now.
 * @param {Record<string, string>} filter
 */
function useConnections(filter) {
  const [held, setHeld] = useState(/** @type {Held | null} */ (null));
  const [error, setError] = useState(/** @type {unknown} */ (null));
  const key = JSON.stringify(filter);
  /** What has gone while older ones are read, so that they do not come back. */
  const turn = useRef({ number: 0, gone: new Set() });

  /** Reads those that the first frame has left out. */
  const older = async () => {
    turn.current = { number: turn.current.number + 1, gone: new Set() };
    const mine = turn.current;
    try {
      const rows = new Map();
      /** @type {any} */
      let after;
      let total = 0;
      do {
        const { data } = await get("/api/monitor/connections", { limit: 1000, ...filter, after });
        if (mine !== turn.current) return;
        for (const row of data.connections) rows.set(row.id, row);
        after = data.next;
        total = data.total_connections;
      } while (after !== undefined && rows.size < MOST);
      setHeld((before) => {
        for (const [id, row] of before?.rows ?? []) rows.set(id, row);
        for (const id of mine.gone) rows.delete(id);
        return { rows, total: before && before.total > 0 ? before.total : Object.keys(filter).length ? rows.size : total, complete: after === undefined };
      });
      setError(null);
    } catch (problem) {
      if (mine === turn.current) setError(problem);
    }
  };

  useEffect(() => {
    turn.current = { number: turn.current.number + 1, gone: new Set() };
    setHeld(null);
    setError(null);
    if (state.value !== "open") older();
  }, [key]);

  useLive(whileVisible("connections"), Object.keys(filter).length ? filter : null, (frame) => {
    if (frame.type === "error") return setError(new ApiError(403, { message: frame.message, code: frame.code }));
    if (frame.type !== "connections") return undefined;
    if (frame.reset) {
      turn.current = { number: turn.current.number + 1, gone: new Set() };
      setHeld({ rows: new Map(frame.upsert.map((/** @type {any} */ row) => [row.id, row])), total: frame.total, complete: frame.upsert.length >= frame.total });
      setError(null);
      if (frame.upsert.length < frame.total) older();
      return undefined;
    }
    for (const id of frame.remove) turn.current.gone.add(id);
    return setHeld((before) => {
      const rows = new Map(before?.rows);
      for (const row of frame.upsert) rows.set(row.id, row);
      for (const id of frame.remove) rows.delete(id);
      return { rows, total: frame.total, complete: before?.complete ?? false };
    });
  });
  // Where there are no live updates, it asks.
  useEffect(() => {
    const timer = setInterval(() => { if (state.value !== "open" && visible.value) older(); }, POLL_MS);
    return () => clearInterval(timer);
  }, [key]);

  const forget = (/** @type {number} */ id) => setHeld((before) => {
    if (!before?.rows.has(id)) return before;
    const rows = new Map(before.rows);
    rows.delete(id);
    turn.current.gone.add(id);
    return { ...before, rows, total: before.total - 1 };
  });
  return { held, error, forget, reload: older };
}

/** @param {{query: Record<string, string>}} props */
export default function Connections({ query }) {
  const filter = useMemo(() => Object.fromEntries(FILTERS.flatMap((name) => (query[name] ? [[name, query[name]]] : []))), [JSON.stringify(query)]);
  const [text, setText] = useState("");
  const [field, setField] = useState("any");
  const { held, error, forget, reload } = useConnections(filter);
  const all = useMemo(() => (held ? [...held.rows.values()].sort((a, b) => b.id - a.id) : []), [held]);
  const rows = useMemo(() => found(all, field, text), [all, field, text]);
  const narrow = (/** @type {string} */ name, /** @type {string | number | null} */ value) => setQuery({ ...filter, [name]: value });

  return html`<${Page} title=${t("nav.connections")} about=${held ? t("connections.about", { n: held.total }) : t("ui.loading")}>
    <${Card} flush>
      <div class="connections-filter">
        <${Filter} text=${text} setText=${setText} field=${field} setField=${setField} narrow=${narrow} />
        <${Chips} filter=${filter} remove=${(/** @type {string} */ name) => narrow(name, null)} />
      </div>
      ${error && html`<${Failed} error=${error} retry=${reload} />`}
      ${held && !held.complete && held.rows.size >= MOST && html`<${Callout}>${t("connections.tooMany", { n: held.rows.size, total: held.total })}<//>`}
      ${held ? html`<${List} rows=${rows} narrow=${narrow} forget=${forget} filtered=${!!text || Object.keys(filter).length > 0} />` : !error && html`<${Loading} />`}
    <//>
  <//>`;
}

/**
 * Those whose fields have the text in them.
 * @param {any[]} rows
 * @param {string} field
 * @param {string} text
 */
function found(rows, field, text) {
  const wanted = text.trim().toLowerCase();
  if (!wanted) return rows;
  /** @type {Record<string, (row: any) => string>} */
  const texts = {
    user_id: (row) => `${row.username ?? ""} #${row.user_id}`,
    device_id: (row) => (row.device_id ? `${row.device_name ?? ""} #${row.device_id}` : ""),
    client: (row) => row.client ?? "",
    address: (row) => row.address,
  };
  const looked = field === "any" ? FILTERS : [field];
  return rows.filter((row) => looked.some((name) => texts[name](row).toLowerCase().includes(wanted)));
}

/** @param {{text: string, setText: (text: string) => void, field: string, setField: (field: string) => void, narrow: (name: string, value: any) => void}} props */
function Filter({ text, setText, field, setField, narrow }) {
  const options = [{ value: "any", label: t("connections.any") }, ...FILTERS.map((name) => ({ value: name, label: t(`connections.by.${name}`) }))];
  return html`<div class="adm-filters">
    <${Select} label=${t("connections.field")} hideLabel value=${field} options=${options} onChange=${setField} />
    <${Search} label=${t("connections.search")} wide value=${text} onInput=${setText} />
    ${field !== "any" && html`<${Button} disabled=${!text.trim()} onClick=${async () => {
      const value = text.trim();
      if (field === "user_id") narrow(field, (await findUser(value)).id);
      else if (field === "device_id") narrow(field, (await findDevice(value)).id);
      else narrow(field, value);
      setText("");
    }}>${t("connections.exactly")}<//>`}
  </div>`;
}

/** @param {{filter: Record<string, string>, remove: (name: string) => void}} props */
function Chips({ filter, remove }) {
  const names = Object.keys(filter);
  if (!names.length) return null;
  return html`<ul class="adm-chips" aria-label=${t("connections.filters")}>${names.map((name) => html`<li class="adm-chip" key=${name}>
    <span class="soft">${t(`connections.by.${name}`)}</span>
    ${name === "user_id" ? html`<${UserLink} id=${Number(filter[name])} />` : name === "device_id" ? html`<${DeviceLink} id=${Number(filter[name])} />` : html`<bdi>${filter[name]}</bdi>`}
    <button type="button" aria-label=${t("connections.unfilter", { name: t(`connections.by.${name}`) })} onClick=${() => remove(name)}><${Icon} name="close" /></button></li>`)}</ul>`;
}

/** @param {{rows: any[], narrow: (name: string, value: any) => void, forget: (id: number) => void, filtered: boolean}} props */
function List({ rows, narrow, forget, filtered }) {
  const only = (/** @type {string} */ name, /** @type {any} */ value, /** @type {any} */ shown) => html`<button type="button" class="adm-cell" title=${t("connections.only")}
    onClick=${() => narrow(name, value)}><bdi>${shown}</bdi></button>`;
  const columns = [
    { key: "username", title: t("connections.by.user_id"), sort: (/** @type {any} */ row) => row.username ?? row.user_id, grow: true, cell: (/** @type {any} */ row) => html`${only("user_id", row.user_id, row.username ?? `#${row.user_id}`)}<${Narrow} parts=${[row.device_name, row.address, html`<${Time} at=${row.connected_at} />`]} />` },
    { key: "device_name", title: t("connections.by.device_id"), sort: (/** @type {any} */ row) => row.device_name ?? row.device_id, wide: true, cell: (/** @type {any} */ row) => (row.device_id ? only("device_id", row.device_id, row.device_name ?? `#${row.device_id}`) : html`<span class="soft">–</span>`) },
    { key: "client", title: t("connections.by.client"), sort: true, wide: true, cell: (/** @type {any} */ row) => (row.client ? only("client", row.client, row.client) : html`<span class="soft">–</span>`) },
    { key: "address", title: t("connections.by.address"), sort: true, wide: true, mono: true, cell: (/** @type {any} */ row) => only("address", row.address, row.address) },
    { key: "connected_at", title: t("connections.since"), sort: (/** @type {any} */ row) => -Date.parse(row.connected_at), wide: true, cell: (/** @type {any} */ row) => html`<${Time} at=${row.connected_at} />` },
    { key: "lag", title: t("connections.lag"), sort: true, number: true, cell: (/** @type {any} */ row) => html`<span class=${row.lag > 0 ? "connections-lag" : "soft"} title=${t("connections.lagAbout")}>${number(row.lag ?? 0)}</span>` },
    { key: "proof", title: t("connections.proof"), sort: (/** @type {any} */ row) => row.proof ?? "ok", wide: true, cell: (/** @type {any} */ row) => (row.proof
      ? html`<${Badge} kind="warn" title=${t("connections.proofNoneAbout")}>${t("connections.proofNone")}<//>` : html`<${Badge} kind="ok" title=${t("connections.proofOkAbout")}>${t("connections.proofOk")}<//>`) },
    { key: "acts", title: t("connections.actions"), actions: true, cell: (/** @type {any} */ row) => html`<${Button} small kind="danger" icon="close" label=${t("connections.disconnectOf", { name: row.username ?? `#${row.user_id}` })}
      confirm=${{ title: t("connections.disconnectTitle"), text: t("connections.disconnectText", { name: row.username ?? `#${row.user_id}`, address: row.address }), action: t("connections.disconnect") }}
      onClick=${async () => { await del(`/api/monitor/connections/${row.id}`); forget(row.id); }} />` },
  ];
  const none = filtered ? html`<${Empty} icon="search" title=${t("connections.noneFound")} text=${t("connections.noneFoundText")} />`
    : html`<${Empty} icon="connections" title=${t("connections.none")} text=${t("connections.noneText")} action=${html`<a href=${link("playground")}>${t("connections.tryPlayground")}</a>`} />`;
  return html`<${Table} label=${t("nav.connections")} rows=${rows} columns=${columns} empty=${none} class="connections-table" />`;
}
