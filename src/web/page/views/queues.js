// The queues: mailboxes in which messages wait, who reads them, and what is in one.
import { Badge, Button, ButtonLink, Card, Empty, Facts, Failed, Loaded, Loading, More, Online, Page, Stat, Stats, Status, Table, Time, html, useLoad, usePages, useState } from "../lib/ui.js";
import { del, get } from "../lib/api.js";
import { bytes, number, t } from "../lib/i18n.js";
import { usePoll } from "../lib/live.js";
import { link } from "../lib/router.js";
import { DeviceLink, UserLink, devices, users } from "./parts/people.js";
import { Pretty, brief } from "./parts/pretty.js";

const POLL_MS = 5000;

/** @param {{params: string[], query: Record<string, string>}} props */
export default function Queues({ params }) {
  const [kind, id] = params;
  const known = (kind === "user" || kind === "device") && /^\d{1,15}$/.test(id ?? "");
  return known ? html`<${Queue} key=${`${kind}:${id}`} kind=${kind} id=${Number(id)} />` : html`<${List} />`;
}

/** @param {any} row of the list of queues */
const place = (row) => (row.to === "all" ? html`<span>${t("queues.everyone")}</span>`
  : html`<a href=${link("queues", row.to, row.id)}><bdi>${row.name ?? `#${row.id}`}</bdi></a>`);

function List() {
  const total = useLoad(() => get("/api/queue").then((answer) => answer.data));
  const list = usePages("/api/queues");
  const reload = async () => { await Promise.all([total.reload(), list.reload()]); };
  usePoll(() => { if (!list.loading) reload(); }, POLL_MS);
  const sum = total.data;
  return html`<${Page} title=${t("nav.queues")} about=${t("queues.about")} actions=${html`<${Button} kind="danger" icon="trash" disabled=${!sum?.messages}
      confirm=${{ title: t("queues.clearAllTitle"), text: t("queues.clearAllText", { n: sum?.messages ?? 0 }), action: t("queues.clearAll"), typed: t("queues.clearAllTyped") }}
      onClick=${async () => { const { data } = await del("/api/queue"); await reload(); return t("queues.cleared", { n: data.messages }); }}>${t("queues.clearAll")}<//>`}>
    ${total.error && html`<${Failed} error=${total.error} retry=${total.reload} />`}
    <${Stats}>
      <${Stat} label=${t("queues.mailboxes")} value=${number(sum?.mailboxes)} />
      <${Stat} label=${t("queues.messages")} value=${number(sum?.messages)} />
      <${Stat} label=${t("queues.bytes")} value=${bytes(sum?.bytes)} />
      <${Stat} label=${t("queues.oldest")} value=${sum?.oldest ? html`<${Time} at=${sum.oldest} />` : "–"} />
    <//>
    <${Card} flush>
      <${Table} label=${t("nav.queues")} rows=${list.rows} rowKey="recipient" empty=${list.loading || list.error ? null : html`<${Empty} icon="check" title=${t("queues.none")} text=${t("queues.noneText")} />`} columns=${[
        { key: "name", title: t("queues.recipient"), sort: (/** @type {any} */ row) => row.name ?? "", grow: true, cell: place },
        { key: "to", title: t("queues.kind"), sort: true, wide: true, cell: (/** @type {any} */ row) => html`<${Badge}>${t(`queues.to.${row.to}`)}<//>` },
        { key: "messages", title: t("queues.waiting"), sort: true, number: true, cell: (/** @type {any} */ row) => number(row.messages) },
        { key: "bytes", title: t("queues.bytes"), sort: true, number: true, wide: true, cell: (/** @type {any} */ row) => bytes(row.bytes) },
        { key: "oldest", title: t("queues.oldest"), sort: true, cell: (/** @type {any} */ row) => html`<${Time} at=${row.oldest} />` },
        { key: "readers", title: t("queues.readers"), sort: true, number: true, wide: true, cell: (/** @type {any} */ row) => number(row.readers) },
      ]} />
      <${More} list=${list} />
    <//>
  <//>`;
}

/** @param {{kind: "user" | "device", id: number}} props */
function Queue({ kind, id }) {
  const path = `/api/queue/${kind}/${id}`;
  const size = useLoad(() => get(path).then((answer) => answer.data), [path]);
  const list = usePages(`${path}/messages`);
  const reload = async () => { await Promise.all([size.reload(), list.reload()]); };
  usePoll(() => { if (!list.loading) reload(); }, POLL_MS, [path]);
  const name = (kind === "user" ? users.of(id)?.username : devices.of(id)?.name) ?? `#${id}`;
  const owner = kind === "user" ? html`<${UserLink} id=${id} />` : html`<${DeviceLink} id=${id} />`;
  const data = size.data;
  return html`<${Page} title=${t("queues.of", { name })} back=${{ href: link("queues"), label: t("nav.queues") }} actions=${html`
      <${ButtonLink} icon="send" href=${link("messages", kind === "user" ? { user: name } : { device: id })}>${t("queues.send")}<//>
      <${Button} kind="danger" icon="trash" disabled=${!data?.messages}
        confirm=${{ title: t("queues.clearTitle", { name }), text: t("queues.clearText", { n: data?.messages ?? 0 }), action: t("queues.clear") }}
        onClick=${async () => { const { data: done } = await del(path); await reload(); return t("queues.cleared", { n: done.messages }); }}>${t("queues.clear")}<//>`}>
    <${Loaded} of=${size}>${(/** @type {any} */ queue) => html`<div class=${kind === "user" ? "columns" : ""}>
      <${Card} title=${t("queues.state")}><${Facts} items=${[
        [t(`queues.to.${kind}`), owner],
        [t("queues.waiting"), t("queues.count", { n: queue.messages })],
        [t("queues.bytes"), bytes(queue.bytes)],
        [t("queues.oldest"), html`<${Time} at=${queue.oldest} />`],
      ]} /><//>
      ${kind === "user" && html`<${Readers} id=${id} />`}
    </div>`}<//>
    <${Card} flush title=${t("queues.peek")} about=${t("queues.peekAbout")}>
      <${Messages} list=${list} />
      <${More} list=${list} />
    <//>
  <//>`;
}

/** @param {{id: number}} props */
function Readers({ id }) {
  const readers = useLoad(() => get("/api/clients", { user_id: id }).then((answer) => answer.data), [id]);
  usePoll(() => { if (readers.data) readers.reload(); }, POLL_MS, [id]);
  return html`<${Card} flush title=${t("queues.readers")} about=${t("queues.readersAbout")}>
    ${readers.error && html`<${Failed} error=${readers.error} retry=${readers.reload} />`}
    ${!readers.data ? !readers.error && html`<${Loading} />` : html`<${Table} label=${t("queues.readers")} rows=${readers.data} rowKey="name" empty=${html`<${Empty} icon="clients" title=${t("queues.noReaders")} />`} columns=${[
      { key: "name", title: t("queues.reader"), sort: true, grow: true, cell: (/** @type {any} */ row) => html`<bdi>${row.name}</bdi>` },
      { key: "waiting", title: t("queues.waiting"), sort: true, number: true, cell: (/** @type {any} */ row) => number(row.waiting) },
      { key: "cursor", title: t("queues.cursor"), number: true, wide: true, cell: (/** @type {any} */ row) => html`<span class="soft">${row.cursor}</span>` },
      { key: "last_connected", title: t("queues.lastConnected"), sort: true, cell: (/** @type {any} */ row) => (row.online ? html`<${Online} on />` : html`<${Time} at=${row.last_connected} />`) },
    ]} />`}
  <//>`;
}

/** @param {{list: import("../lib/ui/data.js").Pages}} props */
function Messages({ list }) {
  const [open, setOpen] = useState(/** @type {Set<number>} */ (new Set()));
  if (!list.rows.length) return list.loading || list.error ? null : html`<${Empty} icon="check" title=${t("queues.empty")} text=${t("queues.emptyText")} />`;
  const turn = (/** @type {number} */ id) => setOpen((before) => {
    const next = new Set(before);
    if (!next.delete(id)) next.add(id);
    return next;
  });
  return html`<ul class="adm-entries">${list.rows.map((row) => html`<li key=${row.id}>
    <div class="adm-entry-head">
      <a class="mono" href=${link("messages", row.id)}>#${row.id}</a> <${Status} status=${row.status} /> <b><bdi>${row.type}</bdi></b>
      <span class="soft">${t("queues.from")} <${UserLink} id=${row.sender_id} /> · <${Time} at=${row.queued_at} /> · ${bytes(row.bytes)} · ${t("queues.expires")} <${Time} at=${row.expires_at} /></span>
    </div>
    ${row.message === undefined ? html`<p class="soft adm-entry-text">${t("queues.hidden")}</p>` : html`
      <button type="button" class="adm-entry-open" aria-expanded=${open.has(row.id) ? "true" : "false"} onClick=${() => turn(row.id)}><code>${open.has(row.id) ? t("queues.fold") : brief(row.message?.message ?? row.message)}</code></button>
      ${open.has(row.id) && html`<${Pretty} value=${row.message} label=${t("queues.message", { id: String(row.id) })} />`}`}
  </li>`)}</ul>`;
}
