// The audit trail: log-ins, and changes to accounts, tokens and devices, newest first.
import { Badge, Button, Card, Empty, Failed, Loading, Page, Select, Table, Time, html, useEffect, useRef, useState } from "../lib/ui.js";
import { get } from "../lib/api.js";
import { has, t } from "../lib/i18n.js";
import { usePoll } from "../lib/live.js";
import { setQuery } from "../lib/router.js";
import { Narrow } from "./parts/narrow.js";
import { DeviceLink, UserLink, findUser, useSuggestions, users } from "./parts/people.js";

const PAGE = 100;
const POLL_MS = 10_000;
/** The events, as the log names them. */
const EVENTS = [
  "login", "login_failed", "login_throttled", "logout", "link_made", "link_used", "link_refused", "elevated", "elevation_failed", "password_changed", "registered",
  "user_created", "user_changed", "user_deleted", "token_made", "token_revoked", "pairing_begun", "pairing_claimed", "pairing_failed", "pairing_done",
  "device_bound", "device_deleted", "backup_downloaded", "imported", "left_out",
];
/** Events that somebody may want to look into. */
const BAD = new Set(["login_failed", "login_throttled", "link_refused", "pairing_failed", "elevation_failed"]);
const GONE = new Set(["user_deleted", "token_revoked", "device_deleted", "left_out"]);

/** @param {string} event */
const nameOf = (event) => (has(`audit.event.${event}`) ? t(`audit.event.${event}`) : event);
/** @param {string} event */
const kindOf = (event) => (BAD.has(event) ? "bad" : GONE.has(event) ? "warn" : "plain");

/**
 * The entries; newer ones are added as they come.
 * @param {Record<string, any>} query
 */
function useTrail(query) {
  const [state, setState] = useState({ rows: /** @type {any[]} */ ([]), next: /** @type {any} */ (undefined), error: /** @type {unknown} */ (null), loading: true });
  const turn = useRef(0);
  const held = useRef(state);
  held.current = state;
  const load = async (/** @type {"first" | "older" | "newer"} */ which) => {
    turn.current += 1;
    const mine = turn.current;
    try {
      const answer = await get("/api/audit", { limit: PAGE, ...query, before: which === "older" ? held.current.next : undefined });
      if (mine !== turn.current) return;
      setState((before) => {
        if (which === "first") return { rows: answer.data, next: answer.next, error: null, loading: false };
        if (which === "older") return { ...before, rows: [...before.rows, ...answer.data], next: answer.next, error: null };
        const newest = before.rows[0]?.id ?? 0;
        const fresh = answer.data.filter((/** @type {any} */ row) => row.id > newest);
        // More than a page has come: what is between would be missing.
        if (fresh.length === PAGE) return { rows: answer.data, next: answer.next, error: null, loading: false };
        return fresh.length || before.error ? { ...before, rows: [...fresh, ...before.rows], error: null } : before;
      });
    } catch (error) {
      if (mine === turn.current) setState((before) => ({ ...before, error, loading: false }));
    }
  };
  useEffect(() => {
    setState({ rows: [], next: undefined, error: null, loading: true });
    load("first");
    return () => { turn.current += 1; };
  }, [JSON.stringify(query)]);
  usePoll(() => { if (!held.current.loading) load("newer"); }, POLL_MS);
  return { ...state, older: () => load("older"), retry: () => load(held.current.rows.length ? "newer" : "first") };
}

/** @param {{query: Record<string, string>}} props */
export default function Audit({ query }) {
  const filter = { event: query.event, user_id: /^\d{1,15}$/.test(query.user_id ?? "") ? query.user_id : undefined };
  const trail = useTrail(filter);
  const filtered = filter.event || filter.user_id;
  const options = [{ value: "", label: t("audit.all") }, ...EVENTS.map((event) => ({ value: event, label: nameOf(event) }))];
  return html`<${Page} title=${t("nav.audit")} about=${t("audit.about")}>
    <${Card} flush>
      <div class="adm-filters">
        <${Select} label=${t("audit.event")} hideLabel value=${filter.event ?? ""} options=${options} onChange=${(/** @type {string} */ event) => setQuery({ ...filter, event })} />
        <${Who} key=${filter.user_id ?? ""} id=${filter.user_id} choose=${(/** @type {any} */ user_id) => setQuery({ ...filter, user_id })} />
        ${filtered && html`<${Button} kind="plain" small icon="close" onClick=${() => { setQuery({}); }}>${t("audit.unfilter")}<//>`}
      </div>
      ${trail.error && html`<${Failed} error=${trail.error} retry=${trail.retry} />`}
      ${trail.loading ? html`<${Loading} />` : html`<${Table} label=${t("nav.audit")} rows=${trail.rows} class="audit-table"
        empty=${trail.error ? null : html`<${Empty} icon="audit" title=${t(filtered ? "audit.noneFound" : "audit.none")} />`} columns=${[
          { key: "at", title: t("audit.time"), wide: true, cell: (/** @type {any} */ row) => html`<${Time} at=${row.at} absolute />` },
          { key: "event", title: t("audit.event"), cell: (/** @type {any} */ row) => html`<${Badge} kind=${kindOf(row.event)} title=${row.event}>${nameOf(row.event)}<//><${Narrow} parts=${[html`<${Time} at=${row.at} />`, row.address]} />` },
          { key: "user", title: t("audit.user"), cell: (/** @type {any} */ row) => html`<${Actor} row=${row} />` },
          { key: "details", title: t("audit.details"), grow: true, wide: true, cell: (/** @type {any} */ row) => html`<${Details} row=${row} />` },
          { key: "address", title: t("audit.address"), mono: true, wide: true, cell: (/** @type {any} */ row) => row.address ?? html`<span class="soft">${t("audit.here")}</span>` },
        ]} />`}
      ${trail.next !== undefined && html`<div class="more"><${Button} onClick=${trail.older}>${t("audit.older")}<//></div>`}
    <//>
  <//>`;
}

/** @param {{id?: string, choose: (id: number | undefined) => void}} props */
function Who({ id, choose }) {
  const { input, list } = useSuggestions("users");
  const [text, setText] = useState(id ? users.of(Number(id))?.username ?? `#${id}` : "");
  return html`<form class="adm-filters" onSubmit=${(/** @type {Event} */ event) => event.preventDefault()}>
    <input ...${input} aria-label=${t("audit.user")} placeholder=${t("audit.user")} value=${text} onInput=${(/** @type {any} */ event) => setText(event.currentTarget.value)} />${list}
    <${Button} onClick=${async () => choose(text.trim() ? (await findUser(text.trim())).id : undefined)}>${t("audit.filter")}<//></form>`;
}

/** Who did it; nobody where a log-in failed. @param {{row: any}} props */
function Actor({ row }) {
  if (row.user_id === 0) return html`<span class="soft">${t("audit.commandLine")}</span>`;
  return row.user_id ? html`<${UserLink} id=${row.user_id} name=${row.username} />` : html`<span class="soft">–</span>`;
}

/** What an entry is about. @param {{row: any}} props */
function Subject({ row }) {
  const { subject_id: id, subject: name, subject_kind: kind } = row;
  if (kind === "device") return html`${t("audit.device")} <${DeviceLink} id=${id} name=${name} />`;
  if (kind === "token") return html`${t("audit.token")} <bdi>${name ?? `#${id}`}</bdi>`;
  return html`<${UserLink} id=${id} name=${name} />`;
}

/** The other parts of an entry. @param {{row: any}} props */
function Details({ row }) {
  const parts = row.subject_id ? [html`<${Subject} row=${row} />`] : [];
  for (const [name, value] of Object.entries(row.details ?? {})) {
    if (value === null || (name === "password" && !value) || (name === "name" && value === row.subject)) continue;
    if (name === "device") parts.push(html`${t("audit.device")} <${DeviceLink} id=${value} />`);
    else if (name === "role") parts.push(t("audit.role", { role: has(`ui.role.${value}`) ? t(`ui.role.${value}`) : String(value) }));
    else if (name === "disabled") parts.push(t(value ? "audit.disabled" : "audit.enabled"));
    else if (name === "password") parts.push(t("audit.password"));
    else if (name === "token") parts.push(`${t("audit.token")} #${value}`);
    else parts.push(`${name}: ${typeof value === "object" ? JSON.stringify(value) : value}`);
  }
  return html`<span class="audit-details">${parts.map((part, n) => html`<span key=${n}>${part}</span>`)}</span>`;
}
