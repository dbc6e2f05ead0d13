// One's own account: password, log-ins and tokens, connections.
import { Badge, Button, Card, Dialog, Empty, Field, Form, More, Page, Secret, Table, Time, html, useEffect, usePages, useRef, useState } from "../lib/ui.js";
import { changePassword, del, me, post, signOut } from "../lib/api.js";
import { has, t } from "../lib/i18n.js";
import { useLive } from "../lib/live.js";

/** What a log-in is called: labels that the server gives by itself are in its language. @param {any} row */
const nameOf = (row) => (has(`account.label.${row.label}`) ? t(`account.label.${row.label}`) : row.label || t(`account.kind.${row.kind}`));

export default function Account() {
  return html`<${Page} title=${t("nav.account")} about=${t("ui.signedInAs", { name: me.value?.username ?? "" })}>
    <${Logins} />
    <div class="columns"><${Password} /><${Connections} /></div>
  <//>`;
}

function Password() {
  return html`<${Card} title=${t("account.password")} about=${t("account.password.about")}>
    <${Form} reset submit=${t("account.password.action")} explain=${(/** @type {string} */ code) => (code === "wrong_password" ? t("account.password.wrong") : undefined)}
      onSubmit=${async (/** @type {any} */ { current_password: current, new_password: next, again }) => {
        if (next !== again) throw new Error(t("account.password.differs"));
        await changePassword(current, next);
        return t("account.password.done");
      }}>
      <input type="hidden" autocomplete="username" value=${me.value?.username ?? ""} />
      <${Field} label=${t("account.current")} name="current_password" type="password" required input=${{ autocomplete: "current-password", maxlength: 128 }} />
      <${Field} label=${t("account.new")} name="new_password" type="password" required hint=${t("account.new.hint")} input=${{ autocomplete: "new-password", minlength: 8, maxlength: 128 }} />
      <${Field} label=${t("account.again")} name="again" type="password" required input=${{ autocomplete: "new-password", minlength: 8, maxlength: 128 }} />
    <//>
  <//>`;
}

function Logins() {
  const list = usePages("/api/auth/tokens");
  const [adding, setAdding] = useState(false);
  const own = me.value?.token.id;
  // A changed password makes a new log-in of this page.
  useEffect(() => { list.reload(); }, [own]);
  return html`<${Card} flush title=${t("account.logins")} about=${t("account.logins.about")} actions=${html`<${Button} small icon="plus" onClick=${() => setAdding(true)}>${t("account.token")}<//>`}>
    <${Table} label=${t("account.logins")} rows=${list.rows} sort=${["last_used_at", "down"]} columns=${[
      { key: "label", title: t("account.what"), sort: true, grow: true, cell: (/** @type {any} */ row) => html`<span class="row"><bdi>${nameOf(row)}</bdi>${row.id === own && html`<${Badge} kind="ok">${t("account.this")}<//>`}${row.device_id && html`<span class="soft">${t("account.device", { id: String(row.device_id) })}</span>`}</span>` },
      { key: "kind", title: t("account.kind"), wide: true, sort: true, cell: (/** @type {any} */ row) => t(`account.kind.${row.kind}`) },
      { key: "created_at", title: t("account.created"), wide: true, sort: true, cell: (/** @type {any} */ row) => html`<${Time} at=${row.created_at} />` },
      { key: "last_used_at", title: t("account.used"), sort: true, cell: (/** @type {any} */ row) => html`<${Time} at=${row.last_used_at} never=${t("ui.never")} />` },
      { key: "expires_at", title: t("account.expires"), wide: true, sort: true, cell: (/** @type {any} */ row) => html`<${Time} at=${row.expires_at} never=${t("account.forever")} />` },
      { key: "acts", title: t("account.actions"), actions: true, cell: (/** @type {any} */ row) => html`<${Button} small kind="danger" confirm=${{
        title: t(row.id === own ? "account.revoke.own" : "account.revoke.title", { name: nameOf(row) }), text: t("account.revoke.text"), action: t("account.revoke"),
      }} onClick=${async () => {
        if (row.id === own) return signOut();
        await del(`/api/auth/tokens/${row.id}`);
        return list.reload();
      }}>${t("account.revoke")}<//>` },
    ]} />
    <${More} list=${list} />
    ${adding && html`<${TokenDialog} onClose=${() => { setAdding(false); list.reload(); }} />`}
  <//>`;
}

/** @param {{onClose: () => void}} props */
function TokenDialog({ onClose }) {
  const [made, setMade] = useState(/** @type {string | null} */ (null));
  const days = [["", "account.forever"], ["1", "account.day"], ["30", "account.month"], ["365", "account.year"]];
  return html`<${Dialog} title=${t("account.token")} onClose=${onClose}>
    ${made ? html`<${Secret} value=${made} label=${t("account.token.label")} />` : html`<p>${t("account.token.text")}</p>
    <${Form} submit=${t("account.token.make")} onCancel=${onClose} onSubmit=${async (/** @type {any} */ { label, days: lasting }) => {
      const { data } = await post("/api/auth/tokens", { ...(label && { label }), ...(lasting && { expires_in: Number(lasting) * 86_400 }) });
      setMade(data.token);
    }}>
      <${Field} label=${t("account.token.name")} name="label" required focus input=${{ maxlength: 100, autocomplete: "off" }} />
      <${Field} label=${t("account.expires")} name="days" type="select" value="" options=${days.map(([value, key]) => ({ value, label: t(key) }))} />
    <//>`}
  <//>`;
}

/** The connections of the account, as they come and go. */
function Connections() {
  const held = useRef(/** @type {Map<number, any>} */ (new Map()));
  const [rows, setRows] = useState(/** @type {any[] | null} */ (null));
  useLive("connections", null, (frame) => {
    if (frame.type !== "connections") return;
    if (frame.reset) held.current.clear();
    for (const item of frame.upsert) if (item.user_id === me.value?.id) held.current.set(item.id, item);
    for (const id of frame.remove) held.current.delete(id);
    setRows([...held.current.values()]);
  });
  return html`<${Card} flush title=${t("account.connections")} about=${t("account.connections.about")}>
    ${rows && html`<${Table} label=${t("account.connections")} rows=${rows} sort=${["connected_at", "down"]} empty=${html`<${Empty} title=${t("account.connections.none")} />`} columns=${[
      { key: "client", title: t("account.client"), grow: true, cell: (/** @type {any} */ row) => html`<bdi>${row.device_name ?? row.client ?? "–"}</bdi>` },
      { key: "address", title: t("account.address"), mono: true, wide: true },
      { key: "connected_at", title: t("account.since"), sort: true, cell: (/** @type {any} */ row) => html`<${Time} at=${row.connected_at} />` },
    ]} />`}
  <//>`;
}
