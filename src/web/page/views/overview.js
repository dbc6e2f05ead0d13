// How the server is: figures and charts as they change, the last hour and day, checks, and what needs attention.
import { Badge, Card, Empty, Facts, Failed, Icon, Page, Segmented, Stat, Stats, Time, html, useLoad, useMemo, useRef, useState } from "../lib/ui.js";
import { get } from "../lib/api.js";
import { Chart } from "../lib/chart.js";
import { bytes, duration, language, number, t } from "../lib/i18n.js";
import { state, useLive, usePoll } from "../lib/live.js";
import { link } from "../lib/router.js";
import { whileVisible } from "./parts/visible.js";

/** The figures of a chart, each as `GET /api/monitor/series` names it. */
const FIELDS = ["connections", "received_per_second", "sent_per_second", "queue_messages", "commit_p99_ms", "memory_bytes", "disk_bytes"];
const CHECKS = ["running", "disk_space", "commit", "hub", "store"];
/** Without live updates the figures are asked for. */
const POLL_MS = 5000;
/** The series are asked for again, and what was added to them meanwhile is dropped. */
const SERIES_POLL_MS = { hour: 60_000, day: 120_000 };

/** @param {any} data of an overview @returns {Record<string, number | null>} the point that it adds to the series */
const pointOf = (data) => ({
  connections: data.connections,
  received_per_second: data.received_per_second,
  sent_per_second: data.sent_per_second,
  queue_messages: data.queue.messages,
  commit_p99_ms: data.commit_p99_seconds === null ? null : data.commit_p99_seconds * 1000,
  memory_bytes: data.memory_bytes,
  disk_bytes: data.disk.store_bytes,
});

/**
 * Adds a point to those since the series was read: one for each of its steps, and the present one at the end.
 * @param {{at: number, point: Record<string, number | null>}[]} points
 * @param {any} data
 * @param {number} step in seconds
 */
function collect(points, data, step) {
  const at = Math.floor(Date.now() / 1000);
  const before = points[points.length - 2];
  const entry = { at, point: pointOf(data) };
  return [...(before && at - before.at < step ? points.slice(0, -1) : points), entry].slice(-400);
}

/**
 * The series with the points that came since; as long as before.
 * @param {any} series
 * @param {{at: number, point: Record<string, number | null>}[]} points
 */
function extended(series, points) {
  const last = series.at[series.at.length - 1] ?? 0;
  const fresh = points.filter(({ at }) => at > last);
  if (!fresh.length) return series;
  const join = (/** @type {any[]} */ old, /** @type {any[]} */ more) => [...old.slice(Math.min(more.length, Math.max(0, old.length - 2))), ...more];
  const made = { ...series, at: join(series.at, fresh.map(({ at }) => at)) };
  for (const field of FIELDS) made[field] = join(series[field] ?? [], fresh.map(({ point }) => point[field] ?? null));
  return made;
}

const NO_SERIES = { at: [], ...Object.fromEntries(FIELDS.map((field) => [field, []])) };

export default function Overview() {
  const [range, setRange] = useState(/** @type {"hour" | "day"} */ ("hour"));
  const [data, setData] = useState(/** @type {any} */ (undefined));
  const [points, setPoints] = useState(/** @type {any[]} */ ([]));
  const step = useRef(10);
  const take = (/** @type {any} */ next) => {
    setData(next);
    setPoints((before) => collect(before, next, step.current));
  };
  useLive(whileVisible("overview"), null, (frame) => { if (frame.type === "overview") take(frame.data); });
  const [failed, setFailed] = useState(/** @type {unknown} */ (null));
  usePoll(async () => {
    if (data && state.value === "open") return;
    try {
      take((await get("/api/monitor/overview")).data);
      setFailed(null);
    } catch (error) {
      setFailed(error);
    }
  }, POLL_MS);
  const series = useLoad(async () => {
    const found = (await get("/api/monitor/series", { range })).data;
    step.current = found.step_seconds;
    return found;
  }, [range]);
  usePoll(() => { if (series.data) series.reload(); }, SERIES_POLL_MS[range], [range]);
  const held = useRef(/** @type {any} */ (NO_SERIES));
  held.current = series.data ?? held.current;
  const shown = useMemo(() => extended(held.current, points), [held.current, points]);

  return html`<${Page} title=${t("nav.overview")} about=${data ? t("overview.about", { version: data.version, uptime: duration(data.uptime_seconds) }) : t("ui.loading")}>
    ${!data && failed && html`<${Failed} error=${failed} />`}
    <${Attention} data=${data} />
    <${Figures} data=${data} />
    <${Card} title=${t("overview.history")} actions=${html`<${Segmented} label=${t("overview.range")} value=${range} onChange=${setRange}
      options=${[{ value: "hour", label: t("overview.hour") }, { value: "day", label: t("overview.day") }]} />`}>
      ${series.error && html`<${Failed} error=${series.error} retry=${series.reload} />`}
      <${Charts} series=${shown} />
    <//>
    <div class="columns">
      <${Checks} data=${data} />
      <${Server} data=${data} />
    </div>
  <//>`;
}

/** @param {{data: any}} props */
function Attention({ data }) {
  const items = data?.attention ?? [];
  return html`<section class=${`overview-attention ${items.length ? "" : "calm"}`} aria-label=${t("overview.attention")}>
    ${items.length ? html`<ul>${items.map((/** @type {any} */ item) => html`<li key=${item.code} class=${item.level}>
      <${Icon} name="warning" /><span><b>${t(item.level === "error" ? "overview.error" : "overview.warning")}</b>${attentionText(item)}</span></li>`)}</ul>`
    : html`<p><${Icon} name="check" />${data ? t("overview.calm") : t("ui.loading")}</p>`}
  </section>`;
}

/**
 * What needs attention. The server's text has the values and is English.
 * @param {{code: string, message: string}} item
 */
function attentionText({ code, message }) {
  const key = `overview.attention.${code}`;
  const text = t(key, { message });
  return language.value === "en" || text === key ? message : text;
}

/** @param {{data: any}} props */
function Figures({ data }) {
  const value = (/** @type {(data: any) => any} */ of) => (data ? of(data) : "–");
  const share = data?.memory_budget_bytes ? data.memory_bytes / data.memory_budget_bytes : 0;
  const low = data && data.disk.free_bytes < data.disk.min_free_bytes * 2;
  const slow = data && data.commit_p99_seconds > 0.25;
  return html`<${Stats}>
    <${Stat} label=${t("overview.connections")} value=${value((d) => number(d.connections))} href=${link("connections")}
      about=${value((d) => t("overview.online", { users: d.users_online, devices: d.devices_online }))} />
    <${Stat} label=${t("overview.received")} value=${value((d) => number(d.received_per_second))} unit=${t("overview.perSecond")} href=${link("traffic")} about=${t("overview.fromClients")} />
    <${Stat} label=${t("overview.sent")} value=${value((d) => number(d.sent_per_second))} unit=${t("overview.perSecond")} href=${link("traffic")} about=${t("overview.toClients")} />
    <${Stat} label=${t("overview.queued")} value=${value((d) => number(d.queue.messages))} href=${link("queues")}
      about=${value((d) => (d.queue.oldest ? html`${t("overview.oldest")}<${Time} at=${d.queue.oldest} />` : t("overview.queueEmpty")))} />
    <${Stat} label=${t("overview.commit")} value=${value((d) => (d.commit_p99_seconds === null ? "–" : number(d.commit_p99_seconds * 1000)))} unit=${t("overview.ms")} kind=${slow ? "warn" : undefined} about=${t("overview.commitAbout")} />
    <${Stat} label=${t("overview.memory")} value=${value((d) => bytes(d.memory_bytes))} kind=${share > 0.9 ? "warn" : undefined}
      about=${value((d) => (d.memory_budget_bytes ? t("overview.ofBudget", { budget: bytes(d.memory_budget_bytes) }) : t("overview.noBudget")))} />
    <${Stat} label=${t("overview.disk")} value=${value((d) => bytes(d.disk.store_bytes))} kind=${low ? "bad" : undefined} about=${value((d) => t("overview.free", { free: bytes(d.disk.free_bytes) }))} />
  <//>`;
}

const perSecond = (/** @type {number} */ value) => number(value, value < 10 ? 1 : 0);
const whole = (/** @type {number} */ value) => number(value, 0);

/** @param {{series: any}} props */
function Charts({ series }) {
  const { at } = series;
  const one = (/** @type {string} */ title, /** @type {string} */ field, /** @type {(value: number) => string} */ format, /** @type {any} */ colour = "main") => html`
    <${Chart} title=${title} at=${at} format=${format} series=${[{ label: title, values: series[field], colour }]} />`;
  return html`<div class="overview-charts">
    ${one(t("overview.connections"), "connections", whole)}
    <${Chart} title=${t("overview.rates")} at=${at} format=${perSecond} series=${[
      { label: t("overview.sentShort"), values: series.sent_per_second, colour: "main" },
      { label: t("overview.receivedShort"), values: series.received_per_second, colour: "second" },
    ]} />
    ${one(t("overview.queue"), "queue_messages", whole)}
    ${one(t("overview.commitMs"), "commit_p99_ms", (value) => t("overview.msValue", { n: number(value) }))}
    ${one(t("overview.memory"), "memory_bytes", bytes)}
    ${one(t("overview.disk"), "disk_bytes", bytes)}
  </div>`;
}

/** @param {{data: any}} props */
function Checks({ data }) {
  const ready = data?.ready;
  return html`<${Card} title=${t("overview.checks")} about=${data ? t(ready ? "overview.ready" : "overview.notReady") : t("ui.loading")}>
    <ul class="overview-checks">${CHECKS.map((check) => {
      const state = data?.health?.[check];
      return html`<li key=${check}><span>${t(`overview.check.${check}`)}<small class="soft">${t(`overview.check.${check}.about`)}</small></span>
        ${state ? html`<${Badge} kind=${state === "ok" ? "ok" : "bad"}>${t(state === "ok" ? "overview.ok" : "overview.failed")}<//>` : html`<${Badge}>–<//>`}</li>`;
    })}</ul>
  <//>`;
}

/** @param {{data: any}} props */
function Server({ data }) {
  if (!data) return html`<${Card} title=${t("overview.server")}><${Empty} title=${t("ui.loading")} /><//>`;
  return html`<${Card} title=${t("overview.server")}>
    <${Facts} items=${[
      [t("overview.version"), data.version],
      [t("overview.started"), html`<${Time} at=${data.started_at} absolute />`],
      [t("overview.uptime"), duration(data.uptime_seconds)],
      [t("overview.users"), number(data.users_online)],
      [t("overview.devices"), number(data.devices_online)],
      [t("overview.mailboxes"), number(data.queue.mailboxes)],
      [t("overview.queueBytes"), bytes(data.queue.bytes)],
      [t("overview.diskFree"), bytes(data.disk.free_bytes)],
      [t("overview.minFree"), bytes(data.disk.min_free_bytes)],
    ]} />
  <//>`;
}
