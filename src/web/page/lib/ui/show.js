// What views show: pages and cards, times, states, texts to copy, codes to scan.
import { html, signal, useEffect, useRef, useState } from "../../vendor/preact.js";
import { errorText } from "../api.js";
import { ago, dateTime, number, t } from "../i18n.js";
import { draw } from "../qr.js";
import { Button } from "./action.js";
import { Icon } from "./icon.js";

/** The time, every ten seconds. */
export const now = signal(Date.now());
setInterval(() => { if (!document.hidden) now.value = Date.now(); }, 10_000);

/**
 * A view: its heading, what can be done, its content. The document's title follows it.
 * @param {{title: string, about?: any, actions?: any, back?: {href: string, label: string}, children?: any}} props
 */
export function Page({ title, about, actions, back, children }) {
  useEffect(() => { document.title = `${title} · qy-lty`; }, [title]);
  return html`<div class="page">
    <header class="page-head">
      <div>${back && html`<a class="back" href=${back.href}><${Icon} name="left" />${back.label}</a>`}<h1 tabindex="-1">${title}</h1>${about && html`<p class="about">${about}</p>`}</div>
      ${actions && html`<div class="actions">${actions}</div>`}
    </header>
    ${children}
  </div>`;
}

/**
 * A part of a page.
 * @param {{title?: any, about?: any, actions?: any, children?: any, class?: string, flush?: boolean}} props `flush`: the content reaches the edges
 */
export function Card({ title, about, actions, children, class: extra = "", flush }) {
  return html`<section class=${`card ${flush ? "flush" : ""} ${extra}`}>
    ${(title || actions) && html`<header><div>${title && html`<h2>${title}</h2>`}${about && html`<p class="about">${about}</p>`}</div>${actions && html`<div class="actions">${actions}</div>`}</header>`}
    ${children}
  </section>`;
}

/**
 * A figure with its name, for a row of them.
 * @param {{label: string, value: any, unit?: string, about?: any, kind?: "ok" | "warn" | "bad", href?: string}} props
 */
export function Stat({ label, value, unit, about, kind, href }) {
  const inner = html`<span class="label">${label}</span><span class=${`value ${kind ?? ""}`}>${value}${unit && html`<small> ${unit}</small>`}</span>${about && html`<span class="about">${about}</span>`}`;
  return href ? html`<a class="stat" href=${href}>${inner}</a>` : html`<div class="stat">${inner}</div>`;
}

/** @param {{children?: any}} props */
export const Stats = ({ children }) => html`<div class="stats">${children}</div>`;

/**
 * A word for a state.
 * @param {{kind?: "ok" | "warn" | "bad" | "info" | "plain", children?: any, title?: string}} props
 */
export const Badge = ({ kind = "plain", children, title }) => html`<span class=${`badge ${kind}`} title=${title}>${children}</span>`;

/**
 * Whether something is online, in a word and a colour.
 * @param {{on: boolean, short?: boolean}} props `short`: the word is for screen readers only
 */
export function Online({ on, short }) {
  return html`<span class=${`online ${on ? "on" : ""}`}><i aria-hidden="true"></i><span class=${short ? "hidden" : ""}>${t(on ? "ui.online" : "ui.offline")}</span></span>`;
}

/** The colour of each state of a message. @type {Record<string, "ok" | "warn" | "bad" | "info" | "plain">} */
const STATUS = { queued: "info", sent: "warn", acked: "ok", expired: "bad", cancelled: "plain", cleared: "plain", undeliverable: "bad" };

/** The state of a message. @param {{status: string}} props */
export const Status = ({ status }) => html`<${Badge} kind=${STATUS[status] ?? "plain"}>${t(`status.${status}`)}<//>`;

/**
 * A time as people say it, with the whole of it as a hint.
 * @param {{at: string | null | undefined, never?: string, absolute?: boolean}} props
 */
export function Time({ at, never, absolute }) {
  if (!at) return html`<span class="soft">${never ?? "–"}</span>`;
  return html`<time datetime=${at} title=${dateTime(at)}>${absolute ? dateTime(at) : ago(at, Math.max(now.value, Date.now() - 10_000))}</time>`;
}

/**
 * Names and values, one below the other.
 * @param {{items: ([string, any] | null | false | undefined)[]}} props
 */
export function Facts({ items }) {
  return html`<dl class="facts">${items.filter(Boolean).map((item) => html`<div key=${/** @type {any} */ (item)[0]}><dt>${/** @type {any} */ (item)[0]}</dt><dd>${/** @type {any} */ (item)[1]}</dd></div>`)}</dl>`;
}

/** @param {{title: string, text?: any, action?: any, icon?: string}} props */
export const Empty = ({ title, text, action, icon }) => html`<div class="empty">${icon && html`<${Icon} name=${icon} />`}<p class="strong">${title}</p>${text && html`<p>${text}</p>`}${action}</div>`;

/** What is there while something loads. */
export const Loading = () => html`<div class="loading" role="status"><span class="hidden">${t("ui.loading")}</span></div>`;

/** @param {{error: unknown, retry?: () => any}} props */
export const Failed = ({ error, retry }) => html`<div class="failed" role="alert"><${Icon} name="warning" /><p>${errorText(error)}</p>${retry && html`<${Button} small onClick=${retry}>${t("ui.retry")}<//>`}</div>`;

/**
 * A remark within a page.
 * @param {{kind?: "info" | "warn" | "bad" | "ok", children?: any}} props
 */
export const Callout = ({ kind = "info", children }) => html`<div class=${`callout ${kind}`}><div>${children}</div></div>`;

/**
 * Copies a text; pages without HTTPS have no clipboard of their own, only the old way.
 * @param {string} text
 */
export async function copy(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const area = document.createElement("textarea");
  const before = /** @type {HTMLElement | null} */ (document.activeElement);
  area.value = text;
  (before?.closest("dialog") ?? document.body).append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  before?.focus();
  if (!done) throw new Error(t("ui.copyFailed"));
  return undefined;
}

/**
 * A button that copies a text.
 * @param {{text: string, label?: string, small?: boolean, kind?: string}} props
 */
export function Copy({ text, label, small = true, kind = "quiet" }) {
  const [done, setDone] = useState(false);
  useEffect(() => {
    if (!done) return undefined;
    const timer = setTimeout(() => setDone(false), 2000);
    return () => clearTimeout(timer);
  }, [done]);
  return html`<${Button} small=${small} kind=${kind} icon=${done ? "check" : "copy"} onClick=${async () => { await copy(text); setDone(true); }}>
    <span aria-live="polite">${done ? t("ui.copied") : label ?? t("ui.copy")}</span><//>`;
}

/**
 * A text of a program, with a button that copies it.
 * @param {{text: string, label?: string, wrap?: boolean}} props
 */
export function Code({ text, label, wrap }) {
  return html`<div class="code"><pre tabindex="0" class=${wrap ? "wrap" : ""} aria-label=${label ?? t("ui.code")}><code>${text}</code></pre><${Copy} text=${text} kind="plain" /></div>`;
}

/**
 * Any JSON, over several lines where it is long.
 * @param {{value: any, copyable?: boolean}} props
 */
export function Json({ value, copyable }) {
  const short = JSON.stringify(value);
  const text = short !== undefined && short.length < 60 ? short : JSON.stringify(value, null, 2);
  return copyable ? html`<${Code} text=${text} />` : html`<pre class="json"><code>${text}</code></pre>`;
}

/**
 * A code to scan.
 * @param {{text: string, label: string}} props `label`: what screen readers say
 */
export function Qr({ text, label }) {
  const ref = useRef(/** @type {HTMLCanvasElement | null} */ (null));
  useEffect(() => { if (ref.current) draw(ref.current, text); }, [text]);
  return html`<canvas class="qr" ref=${ref} role="img" aria-label=${label}></canvas>`;
}

/**
 * A secret that is shown this once: to copy, and to scan.
 * @param {{value: string, label: string, qr?: boolean}} props
 */
export function Secret({ value, label, qr = true }) {
  return html`<div class="secret">
    ${qr && html`<${Qr} text=${value} label=${t("ui.qrOf", { label })} />`}
    <div><p class="label">${label}</p><code class="token">${value}</code><${Copy} text=${value} kind="primary" />
      <p class="soft">${t("ui.shownOnce")}</p></div>
  </div>`;
}

/**
 * When something was online: a bar for each part of the last day.
 * @param {{slots: number[], from: string, seconds: number}} props
 */
export function OnlineBars({ slots, from, seconds }) {
  const on = slots.filter(Boolean).length;
  const share = slots.length ? on / slots.length : 0;
  const begin = new Date(from).getTime();
  return html`<div class="bars"><div class="bar-row" aria-hidden="true">${slots.map((slot, n) => html`<i key=${n} class=${slot ? "on" : ""} title=${dateTime(begin + n * seconds * 1000, false)}></i>`)}</div>
    <p class="soft">${t("ui.onlineShare", { percent: `${number(share * 100, 0)} %` })}</p></div>`;
}
