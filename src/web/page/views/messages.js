// Sending, and what became of it: receipts that change as it happens, and any message found by its id.
import {
  Badge, Button, Callout, Card, Copy, Empty, Facts, Field, Form, Loaded, Page, Segmented, Status, Time, confirm, html, signal, useEffect, useId, useLoad, useRef, useState,
} from "../lib/ui.js";
import { ApiError, Cancelled, del, get, request } from "../lib/api.js";
import { dateTime, duration, number, t } from "../lib/i18n.js";
import { FINAL, readReceipts, useReceipts } from "../lib/receipts.js";
import { go, link } from "../lib/router.js";
import { DeviceLink, UserLink, findDevice, findUser, useSuggestions } from "./parts/people.js";
import { Pretty, brief } from "./parts/pretty.js";

/**
 * @typedef {object} Sent A message that was sent from this page.
 * @property {number} key
 * @property {number} [id] of a queued one
 * @property {"user" | "device" | "all"} to
 * @property {string} name of the recipient
 * @property {string} type
 * @property {any} message
 * @property {number} recipients connections that it was passed to at once
 * @property {string} at
 * @property {any} receipt as last read
 */

/** What was sent, newest first; kept while the page is open. */
const sent = signal(/** @type {Sent[]} */ ([]));
const MOST_SENT = 50;
let keys = 0;

const TYPES = ["system", "notice", "alarm", "reminder", "chat_response"];
const TTLS = [60, 3600, 86_400, 604_800, 2_592_000];
const STEPS = ["queued", "sent", "acked"];

/** @param {{params: string[], query: Record<string, string>}} props */
export default function Messages({ params, query }) {
  const found = params[0];
  const look = html`<form class="messages-find" role="search" onSubmit=${(/** @type {any} */ event) => {
    event.preventDefault();
    const id = event.currentTarget.elements.namedItem("id").value.replace(/^#/, "").trim();
    if (id) go("messages", id);
  }}><${FindField} key=${found} value=${found} /><button class="button quiet">${t("messages.find")}</button></form>`;
  return html`<${Page} title=${t("nav.messages")} actions=${look}>
    ${found && html`<${Found} key=${found} id=${found} />`}
    <${Send} query=${query} />
    <${History} />
  <//>`;
}

/** @param {{value?: string}} props */
function FindField({ value }) {
  const id = useId();
  return html`<label class="hidden" for=${id}>${t("messages.findLabel")}</label><input id=${id} name="id" inputmode="numeric" pattern=${"#?[0-9]+"} defaultValue=${value ?? ""} placeholder=${t("messages.findLabel")} autocomplete="off" />`;
}

/** @param {{query: Record<string, string>}} props */
function Send({ query }) {
  const [to, setTo] = useState(/** @type {"user" | "device" | "all"} */ (query.device ? "device" : "user"));
  const [format, setFormat] = useState("text");
  const [live, setLive] = useState(false);
  const users = useSuggestions("users");
  const devices = useSuggestions("devices");
  const types = useId();
  const suggestions = to === "device" ? devices : users;
  /** A send that failed is repeated with the same key, so that it does not arrive twice. */
  const attempt = useRef({ what: "", key: "" });

  const send = async (/** @type {any} */ values, /** @type {HTMLFormElement} */ form) => {
    const body = { type: values.type || "system", message: parsed(values.message, format), ...(live ? { delivery: "live" } : values.ttl && { ttl: Number(values.ttl) }) };
    const target = to === "all" ? null : await (to === "user" ? findUser(values.recipient) : findDevice(values.recipient));
    if (to === "all" && !(await confirm({ title: t("messages.everyoneTitle"), text: t("messages.everyoneText"), action: t("messages.send"), kind: "primary" }))) throw new Cancelled();
    const path = to === "all" ? "/api/messages/broadcast" : `/api/messages/${to}/${target.id}`;
    const what = path + JSON.stringify(body);
    if (attempt.current.what !== what) attempt.current = { what, key: random() };
    const { data } = await request("POST", path, { body, headers: live ? {} : { "Idempotency-Key": attempt.current.key } });
    attempt.current = { what: "", key: "" };
    keys += 1;
    const entry = { key: keys, id: data.id, to, name: target?.username ?? target?.name ?? "", type: data.type, message: data.message, recipients: data.recipients, at: data.timestamp, receipt: null };
    sent.value = [entry, ...sent.value].slice(0, MOST_SENT);
    const field = /** @type {HTMLTextAreaElement} */ (form.elements.namedItem("message"));
    field.value = "";
    if (data.id !== undefined) await refresh([data.id]);
    return data.id === undefined ? t("messages.sentLive", { n: data.recipients }) : t("messages.sentAs", { id: String(data.id) });
  };

  return html`<${Card} title=${t("messages.new")} actions=${html`<${Segmented} label=${t("messages.to")} value=${to} onChange=${setTo}
      options=${["user", "device", "all"].map((value) => ({ value, label: t(`messages.to.${value}`) }))} />`}>
    <${Form} label=${t("messages.new")} submit=${t("messages.send")} onSubmit=${send}>
      ${to === "all" ? html`<${Callout} kind="warn">${t("messages.everyoneNote")}<//>` : html`
        <${Field} key=${to} label=${t(to === "user" ? "messages.user" : "messages.device")} name="recipient" required focus=${!query.user && !query.device}
          value=${to === "user" ? query.user ?? "" : query.device ? `#${query.device}` : ""} hint=${t(to === "user" ? "messages.userHint" : "messages.deviceHint")} input=${suggestions.input} />${suggestions.list}`}
      <div class="messages-row">
        <${Field} label=${t("messages.type")} name="type" value="system" required input=${{ maxlength: 64, autocomplete: "off", list: types, spellcheck: false }} />
        <datalist id=${types}>${TYPES.map((type) => html`<option key=${type} value=${type} />`)}</datalist>
        <${Field} label=${t("messages.delivery")} name="delivery" type="select" value="queued" onChange=${(/** @type {any} */ event) => setLive(event.currentTarget.value === "live")}
          options=${["queued", "live"].map((value) => ({ value, label: t(`messages.delivery.${value}`) }))} />
        <${Field} key=${live ? "none" : "ttl"} label=${t("messages.ttl")} name="ttl" type="select" value="" input=${{ disabled: live }} options=${[{ value: "", label: t("messages.ttlDefault") },
          ...TTLS.map((seconds) => ({ value: String(seconds), label: duration(seconds) }))]} />
      </div>
      <${Field} label=${t("messages.content")} name="message" type="textarea" rows=${5} required raw mono=${format === "json"}
        hint=${t(format === "json" ? "messages.jsonHint" : "messages.textHint")} input=${{ spellcheck: format !== "json", placeholder: format === "json" ? '{"title": "…"}' : t("messages.placeholder") }} />
      <div><${Segmented} label=${t("messages.format")} value=${format} onChange=${setFormat} options=${["text", "json"].map((value) => ({ value, label: t(`messages.format.${value}`) }))} /></div>
    <//>
  <//>`;
}

/**
 * @param {string} text
 * @param {string} format
 * @throws {ApiError} where it should be JSON and is not
 */
function parsed(text, format) {
  if (format !== "json") return text;
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new ApiError(400, { code: "invalid", message: `message: ${t("messages.notJson")} ${error instanceof Error ? error.message : ""}` });
  }
}

/** A key of a send. */
const random = () => [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");

/** @param {Map<number, any>} read */
function show(read) {
  sent.value = sent.value.map((entry) => (entry.id !== undefined && read.get(entry.id) ? { ...entry, receipt: read.get(entry.id) } : entry));
}

/** Reads receipts again. @param {number[]} ids */
const refresh = async (ids) => show(await readReceipts(ids));

function History() {
  const entries = sent.value;
  const open = () => sent.value.flatMap(({ id, receipt }) => (id !== undefined && !FINAL.has(receipt?.status) ? [id] : []));
  useReceipts((id) => sent.value.some((entry) => entry.id === id), open, show);
  // What has changed while another view was shown.
  useEffect(() => { refresh(open()); }, []);
  return html`<${Card} flush title=${t("messages.sent")} about=${t("messages.sentAbout")}>
    ${entries.length ? html`<ul class="adm-entries" aria-live="polite">${entries.map((entry) => html`<li key=${entry.key}><${Entry} entry=${entry} /></li>`)}</ul>`
    : html`<${Empty} icon="messages" title=${t("messages.none")} text=${t("messages.noneText")} />`}
  <//>`;
}

/** @param {{entry: Sent}} props */
function Entry({ entry }) {
  const { id, receipt } = entry;
  return html`<div class="adm-entry-head">
      ${id === undefined ? html`<${Badge} kind=${entry.recipients ? "ok" : "warn"}>${t("messages.liveTo", { n: entry.recipients })}<//>` : html`<a class="mono" href=${link("messages", id)}>#${id}</a>`}
      ${receipt && html`<${Status} status=${receipt.status} />`}
      <b><bdi>${entry.type}</bdi></b>
      <span class="soft">${t("messages.toName", { name: entry.to === "all" ? t("messages.to.all") : entry.name })} · <${Time} at=${entry.at} /></span>
      <span class="adm-entry-acts">${id !== undefined && receipt && !FINAL.has(receipt.status) && html`<${TakeBack} id=${id} done=${() => refresh([id])} />`}</span>
    </div>
    <p class="adm-entry-text"><code>${brief(entry.message)}</code></p>
    ${receipt && html`<${Steps} receipt=${receipt} />`}`;
}

/** @param {{id: number, done: () => any}} props */
const TakeBack = ({ id, done }) => html`<${Button} small confirm=${{ title: t("messages.takeBackTitle"), text: t("messages.takeBackText"), action: t("messages.takeBack") }}
  onClick=${async () => { try { await del(`/api/messages/${id}`); } finally { await done(); } }}>${t("messages.takeBack")}<//>`;

/**
 * The way of a message: what it has passed, and where it is.
 * @param {{receipt: any}} props
 */
function Steps({ receipt }) {
  const ended = FINAL.has(receipt.status) && receipt.status !== "acked";
  /** @type {Record<string, string | undefined>} */
  const times = { queued: receipt.queued_at, sent: receipt.sent_at, acked: receipt.acked_at };
  const steps = ended ? ["queued", ...(receipt.deliveries ? ["sent"] : []), receipt.status] : STEPS;
  const at = steps.indexOf(receipt.status);
  return html`<ol class="messages-steps">${steps.map((step, n) => html`<li key=${step} class=${`${n <= at ? "done" : ""} ${ended && n === at ? "ended" : ""}`} aria-current=${n === at ? "step" : undefined}>
    <span>${t(`status.${step}`)}</span><small>${n <= at && (times[step] ?? (n === at ? receipt.ended_at : undefined)) ? dateTime(times[step] ?? receipt.ended_at) : " "}</small></li>`)}</ol>
    ${receipt.status === "acked" && html`<p class="soft messages-readers">${receipt.received !== undefined ? t("messages.received", { n: receipt.received })
    : receipt.readers?.length ? t("messages.readBy", { names: receipt.readers.map((/** @type {any} */ reader) => reader.client).join(t("messages.comma")) }) : ""}</p>`}`;
}

/** @param {{id: string}} props */
function Found({ id }) {
  const number_ = Number(id);
  const receipt = useLoad(async () => {
    try {
      return (await get(`/api/messages/${encodeURIComponent(id)}`)).data;
    } catch (error) {
      throw error instanceof ApiError && error.status === 404 ? new ApiError(404, { message: t("messages.notFound", { id }) }) : error;
    }
  }, [id]);
  useReceipts((changed) => changed === number_, () => (receipt.data && FINAL.has(receipt.data.status) ? [] : [number_]), (read) => { if (read.has(number_)) receipt.set(read.get(number_)); });
  const content = useContent(receipt.data);
  const close = html`<${Button} kind="plain" icon="close" label=${t("ui.close")} onClick=${() => go("messages")} />`;
  return html`<${Card} title=${t("messages.message", { id })} actions=${close}><${Loaded} of=${receipt}>${(/** @type {any} */ data) => html`
    <${Steps} receipt=${data} />
    <${Facts} items=${[
      [t("messages.status"), html`<${Status} status=${data.status} />`],
      [t("messages.to"), data.to === "user" ? html`<${UserLink} id=${data.user_id} />` : data.to === "device" ? html`<${DeviceLink} id=${data.device_id} />` : t("messages.to.all")],
      [t("messages.sender"), html`<${UserLink} id=${data.sender_id} />`],
      [t("messages.expires"), html`<${Time} at=${data.expires_at} absolute />`],
      [t("messages.deliveries"), number(data.deliveries)],
      data.received !== undefined && [t("messages.receivedBy"), number(data.received)],
    ]} />
    ${data.readers?.length > 0 && html`<h3>${t("messages.readers")}</h3><ul class="messages-reader-list">${data.readers.map((/** @type {any} */ reader) => html`<li key=${reader.client}>
      <bdi>${reader.client}</bdi> ${reader.status ? html`<${Status} status=${reader.status} />` : html`<${Status} status="acked" />`} <span class="soft"><${Time} at=${reader.acked_at} never="" /></span></li>`)}</ul>`}
    ${data.more_readers && html`<p class="soft">${t("messages.moreReaders", { n: data.more_readers })}</p>`}
    ${content !== undefined && html`<h3>${t("messages.content")}</h3><${Pretty} value=${content} label=${t("messages.content")} />`}
    <div class="adm-acts">${!FINAL.has(data.status) && html`<${TakeBack} id=${data.id} done=${receipt.reload} />`}
      ${(data.to === "user" || data.to === "device") && html`<a href=${link("queues", data.to, data.user_id ?? data.device_id)}>${t("messages.queue")}</a>`}
      <${Copy} text=${JSON.stringify(data, null, 2)} label=${t("messages.copyReceipt")} /></div>`}<//>
  <//>`;
}

/**
 * What is in a message: as it was sent from here, or as its queue shows it while it waits.
 * @param {any} receipt
 */
function useContent(receipt) {
  const own = sent.value.find(({ id }) => id !== undefined && id === receipt?.id);
  const [content, setContent] = useState(/** @type {any} */ (undefined));
  const waits = receipt && !FINAL.has(receipt.status) && receipt.to !== "all" && !own;
  useEffect(() => {
    if (!waits) return;
    get(`/api/queue/${receipt.to}/${receipt.user_id ?? receipt.device_id}/messages`, { after: receipt.id - 1, limit: 1 })
      .then(({ data }) => { if (data[0]?.id === receipt.id) setContent(data[0].message?.message ?? data[0].message); }, () => {});
  }, [receipt?.id, waits]);
  return own ? own.message : content;
}
