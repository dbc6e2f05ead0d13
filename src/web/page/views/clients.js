// A user's clients: phones, tablets, pages, each with a place of its own in the messages.
import { Button, Callout, Card, Code, Empty, More, Online, Page, Table, Time, html, usePages } from "../lib/ui.js";
import { del } from "../lib/api.js";
import { number, t } from "../lib/i18n.js";
import { useLive, usePoll } from "../lib/live.js";
import { socketUrl } from "../lib/snippets.js";

const REFRESH_MS = 10_000;

export default function Clients() {
  const list = usePages("/api/clients");
  usePoll(list.reload, REFRESH_MS, []);
  useLive("connections", null, (frame) => { if (frame.type === "connections" && !frame.reset) list.reload(); });
  return html`<${Page} title=${t("nav.clients")} about=${t("clients.about")}>
    <${Card} flush>
      <${Table} label=${t("nav.clients")} rowKey="name" rows=${list.rows} empty=${list.loading || list.error ? null : html`<${Empty} icon="clients" title=${t("clients.none")} text=${t("clients.none.text")} />`} columns=${[
        { key: "name", title: t("clients.name"), sort: true, grow: true, cell: (/** @type {any} */ row) => html`<bdi>${row.name === "default" ? t("clients.default") : row.name}</bdi>` },
        { key: "online", title: t("clients.state"), sort: (/** @type {any} */ row) => Number(row.online), cell: (/** @type {any} */ row) => html`<${Online} on=${row.online} />` },
        { key: "waiting", title: t("clients.waiting"), sort: true, number: true, cell: (/** @type {any} */ row) => number(row.waiting) },
        { key: "last_connected", title: t("clients.last"), sort: true, wide: true, cell: (/** @type {any} */ row) => html`<${Time} at=${row.last_connected} />` },
        { key: "acts", title: t("clients.actions"), actions: true, cell: (/** @type {any} */ row) => html`<${Button} small kind="danger" icon="trash" label=${t("clients.forget", { name: row.name })}
          confirm=${{ title: t("clients.forget.title", { name: row.name }), text: t("clients.forget.text"), action: t("clients.forget.action") }}
          onClick=${async () => { await del(`/api/clients/${encodeURIComponent(row.name)}`); await list.reload(); }} />` },
      ]} />
      <${More} list=${list} />
    <//>
    <${Callout}><p>${t("clients.how")}</p><//>
    <${Code} text=${`${socketUrl()}?client=phone&ticket=…`} label=${t("clients.address")} />
  <//>`;
}
