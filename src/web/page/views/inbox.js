// A user's own messages: send to oneself or one's devices, what waits, and what has come lately.
import { Badge, Button, Card, Empty, Field, Form, Json, Loaded, Page, Status, Time, html, useEffect, useLoad, useRef, useState } from "../lib/ui.js";
import { all, del, get, me, post } from "../lib/api.js";
import { bytes, t } from "../lib/i18n.js";
import { usePoll } from "../lib/live.js";
import { FINAL, readReceipts, useReceipts } from "../lib/receipts.js";

const REFRESH_MS = 15_000;
/** The most messages that are shown. */
const MOST = 2000;

/**
 * Returns what a text stands for: JSON where it is an object or a list, else the text itself.
 * @param {string} text
 */
export function contentOf(text) {
  if (!/^\s*[[{]/.test(text)) return text;
  try {
    return JSON.parse(text);
  } catch {
    throw new Error(t("inbox.notJson"));
  }
}

export default function Inbox() {
  const user = me.value?.id ?? 0;
  const devices = useLoad(() => all("/api/devices", { user_id: me.value?.role === "admin" ? user : undefined }), [user]);
  const history = useLoad(() => all("/api/messages/history", {}, MOST).then((found) => found.reverse()), [user]);
  const queue = useLoad(() => get(`/api/queue/user/${user}`).then((answer) => answer.data), [user]);
  const statuses = useRef(/** @type {Map<number, string>} */ (new Map()));
  const [, redraw] = useState(0);
  const pending = useRef(/** @type {any} */ (0));
  const reload = () => Promise.all([history.reload(), queue.reload()]);
  usePoll(reload, REFRESH_MS, []);
  useEffect(() => () => clearTimeout(pending.current), []);
  // What is new is not in the list yet, and is read with it.
  useReceipts(() => true, () => [...statuses.current].filter(([, status]) => !FINAL.has(status)).map(([id]) => id), (read) => {
    for (const [id, { status }] of read) statuses.current.set(id, status);
    while (statuses.current.size > MOST) statuses.current.delete(statuses.current.keys().next().value ?? 0);
    redraw((n) => n + 1);
    clearTimeout(pending.current);
    pending.current = setTimeout(reload, 300);
  });
  const sent = async (/** @type {number} */ id) => {
    statuses.current.set(id, "queued");
    for (const [read, { status }] of await readReceipts([id])) statuses.current.set(read, status);
    await reload();
  };
  return html`<${Page} title=${t("nav.inbox")} about=${t("inbox.about")}>
    <div class="columns">
      <${Compose} devices=${devices.data ?? []} user=${user} onSent=${sent} statusOf=${(/** @type {number} */ id) => statuses.current.get(id)} />
      <${Card} title=${t("inbox.waiting")} about=${t("inbox.waiting.about")}>
        <${Loaded} of=${queue}>${(/** @type {any} */ size) => html`<div class="spread">
          <span>${t("inbox.waiting.n", { n: size.messages })} · ${bytes(size.bytes)}${size.oldest && html` · ${t("inbox.oldest")} <${Time} at=${size.oldest} />`}</span>
          ${size.messages > 0 && html`<${Button} small kind="danger" confirm=${{ title: t("inbox.clear.title"), text: t("inbox.clear.text"), action: t("inbox.clear") }}
            onClick=${async () => { await del(`/api/queue/user/${user}`); await reload(); }}>${t("inbox.clear")}<//>`}
        </div>`}<//>
      <//>
    </div>
    <${Card} flush title=${t("inbox.history")}>
      <${Loaded} of=${history}>${(/** @type {any[]} */ rows) => (rows.length
        ? html`<ul class="message-list">${rows.slice(0, 300).map((row) => html`<${Message} key=${row.id} row=${row} status=${statuses.current.get(row.id)} />`)}</ul>`
        : html`<${Empty} icon="messages" title=${t("inbox.none")} text=${t("inbox.none.text")} />`)}<//>
    <//>
  <//>`;
}

/** @param {{row: any, status: string | undefined}} props */
function Message({ row, status }) {
  const [receipt, setReceipt] = useState(/** @type {any} */ (null));
  const shown = status ?? receipt?.status;
  return html`<li class="message">
    <div class="meta"><${Badge}>${row.type}<//>${row.sender && html`<span>${t("inbox.from")} <bdi>${row.sender}</bdi>${row.via && html` (<bdi>${row.via}</bdi>)`}</span>`}<${Time} at=${row.timestamp} /><span>#${row.id}</span>${shown && html`<${Status} status=${shown} />`}</div>
    <div class="row end">${!shown && html`<${Button} small kind="plain" onClick=${async () => { setReceipt((await get(`/api/messages/${row.id}`)).data); }}>${t("inbox.receipt")}<//>`}</div>
    <${Json} value=${row.message} />
  </li>`;
}

/** @param {{devices: any[], user: number, onSent: (id: number) => any, statusOf: (id: number) => string | undefined}} props */
function Compose({ devices, user, onSent, statusOf }) {
  const [sent, setSent] = useState(/** @type {number | null} */ (null));
  const status = sent === null ? undefined : statusOf(sent) ?? "queued";
  return html`<${Card} title=${t("inbox.send")}>
    <${Form} submit=${t("inbox.send.action")} onSubmit=${async (/** @type {any} */ { to, type, message }) => {
      const path = to === "me" ? `/api/messages/user/${user}` : `/api/messages/device/${to}`;
      const { data } = await post(path, { type: type || "text", message: contentOf(message) });
      setSent(data.id);
      await onSent(data.id);
    }}>
      <div class="fields">
        <${Field} label=${t("inbox.to")} name="to" type="select" options=${[{ value: "me", label: t("inbox.myself") }, ...devices.map((device) => ({ value: String(device.id), label: device.name }))]} />
        <${Field} label=${t("inbox.type")} name="type" value="text" required input=${{ maxlength: 64, autocomplete: "off" }} />
      </div>
      <${Field} label=${t("inbox.message")} name="message" type="textarea" rows=${3} required hint=${t("inbox.message.hint")} />
    <//>
    <p role="status">${status && html`#${sent} <${Status} status=${status} />`}</p>
  <//>`;
}
