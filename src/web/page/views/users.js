// The accounts: a list of them, and everything about one.
import {
  Badge, Button, ButtonLink, Card, Dialog, Empty, Facts, Failed, Field, Form, Loaded, Loading, More, Online, Page, Search, Secret, Table, Time, html, useEffect, useLoad,
  useMemo, usePages, useState,
} from "../lib/ui.js";
import { all, del, get, me, patch, post } from "../lib/api.js";
import { bytes, number, t } from "../lib/i18n.js";
import { usePoll } from "../lib/live.js";
import { go, link } from "../lib/router.js";
import { Narrow } from "./parts/narrow.js";
import { DeviceLink, users as known } from "./parts/people.js";

const ONLINE_POLL_MS = 10_000;
const SEARCH_MS = 300;
/** The scopes of tokens of services. */
const SCOPES = ["send", "broadcast", "read", "metrics"];

const roles = () => [{ value: "user", label: t("ui.role.user") }, { value: "admin", label: t("ui.role.admin") }];

/** @param {{params: string[], query: Record<string, string>}} props */
export default function Users({ params }) {
  return params[0] ? html`<${User} key=${params[0]} id=${params[0]} />` : html`<${List} />`;
}

/** The number of connections of each user that is online; `null` until that is known. */
function useOnline() {
  const [online, setOnline] = useState(/** @type {Map<number, any> | null} */ (null));
  usePoll(async () => {
    const found = await all("/api/users/online", {}, 20_000).catch(() => null);
    if (found) setOnline(new Map(found.map((row) => [row.user_id, row])));
  }, ONLINE_POLL_MS);
  return online;
}

function List() {
  const list = usePages("/api/users");
  const online = useOnline();
  const [text, setText] = useState("");
  const [adding, setAdding] = useState(false);
  const named = useNamed(text, list.hasMore);
  useEffect(() => known.keep(list.rows), [list.rows]);
  const rows = useMemo(() => {
    const wanted = text.trim().toLowerCase();
    const found = wanted ? list.rows.filter((row) => row.username.toLowerCase().includes(wanted) || `#${row.id}` === wanted) : list.rows;
    return [...named.filter((row) => !found.some(({ id }) => id === row.id)), ...found];
  }, [list.rows, text, named]);
  const add = html`<${Button} kind="primary" icon="plus" onClick=${() => setAdding(true)}>${t("users.add")}<//>`;

  return html`<${Page} title=${t("nav.users")} actions=${add}>
    <${Card} flush>
      <div class="adm-filters"><${Search} label=${t("users.search")} wide value=${text} onInput=${setText} /></div>
      <${Table} label=${t("nav.users")} rows=${rows} class="users-table"
        empty=${list.loading || list.error ? null : text ? html`<${Empty} icon="search" title=${t("users.noneFound")} text=${list.hasMore ? t("users.noneFoundMore") : undefined} />` : html`<${Empty} icon="users" title=${t("users.none")} action=${add} />`}
        columns=${[
          { key: "username", title: t("users.name"), sort: true, grow: true, cell: (/** @type {any} */ row) => html`<a href=${link("users", row.id)}><bdi>${row.username}</bdi></a>${row.id === me.value?.id ? html` <${Badge} kind="info">${t("users.you")}<//>` : ""}<${Narrow} parts=${[t(`ui.role.${row.role}`), html`<${Time} at=${row.created_at} />`]} />` },
          { key: "role", title: t("users.role"), sort: true, wide: true, cell: (/** @type {any} */ row) => html`<${Badge} kind=${row.role === "admin" ? "info" : "plain"}>${t(`ui.role.${row.role}`)}<//>` },
          { key: "disabled", title: t("users.state"), sort: (/** @type {any} */ row) => (row.disabled ? 2 : online?.has(row.id) ? 0 : 1), cell: (/** @type {any} */ row) => (row.disabled
            ? html`<${Badge} kind="warn">${t("users.disabled")}<//>` : html`<${Online} on=${!!online?.has(row.id)} />`) },
          { key: "connections", title: t("users.connections"), number: true, wide: true, sort: (/** @type {any} */ row) => online?.get(row.id)?.connections ?? 0, cell: (/** @type {any} */ row) => {
            const n = online?.get(row.id)?.connections ?? 0;
            return n ? html`<a href=${link("connections", { user_id: row.id })}>${number(n)}</a>` : html`<span class="soft">0</span>`;
          } },
          { key: "id", title: t("users.id"), number: true, wide: true, sort: true, cell: (/** @type {any} */ row) => html`<span class="soft">${row.id}</span>` },
          { key: "created_at", title: t("users.created"), sort: true, wide: true, cell: (/** @type {any} */ row) => html`<${Time} at=${row.created_at} />` },
        ]} />
      <${More} list=${list} />
    <//>
    ${adding && html`<${Add} onClose=${() => setAdding(false)} onDone=${async (/** @type {any} */ user) => { setAdding(false); await list.reload(); go("users", user.id); }} />`}
  <//>`;
}

/**
 * The user of exactly that name, asked of the server where not all users are on the page.
 * @param {string} text
 * @param {boolean} hasMore
 */
function useNamed(text, hasMore) {
  const [named, setNamed] = useState(/** @type {any[]} */ ([]));
  useEffect(() => {
    setNamed([]);
    const wanted = text.trim();
    if (!wanted || !hasMore) return undefined;
    let current = true;
    const timer = setTimeout(async () => {
      const number = /^#(\d{1,15})$/.exec(wanted);
      const found = await (number ? get(`/api/users/${number[1]}`).then((answer) => [answer.data]) : get("/api/users", { username: wanted }).then((answer) => answer.data)).catch(() => []);
      if (current) setNamed(found);
    }, SEARCH_MS);
    return () => { current = false; clearTimeout(timer); };
  }, [text, hasMore]);
  return named;
}

/** A password that nobody guesses, of characters that are not mistaken for each other. */
function strongPassword() {
  const letters = "abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789";
  return [...crypto.getRandomValues(new Uint32Array(16))].map((value) => letters[value % letters.length]).join("");
}

/** A field for a new password, which can be made up. */
function NewPassword({ name = "password", label = t("ui.password") }) {
  const [shown, setShown] = useState(false);
  return html`<div class="users-password"><${Field} label=${label} name=${name} type=${shown ? "text" : "password"} raw required mono=${shown} hint=${t("users.passwordHint")}
      input=${{ minlength: 8, maxlength: 128, autocomplete: "new-password", spellcheck: false }} />
    <button type="button" class="button quiet small" onClick=${(/** @type {any} */ event) => {
      setShown(true);
      event.currentTarget.form.elements.namedItem(name).value = strongPassword();
    }}>${t("users.generate")}</button></div>`;
}

/** @param {{onClose: () => void, onDone: (user: any) => any}} props */
function Add({ onClose, onDone }) {
  return html`<${Dialog} title=${t("users.add")} onClose=${onClose}>
    <${Form} submit=${t("users.create")} onCancel=${onClose} explain=${(/** @type {string} */ code, /** @type {any} */ error) => (code === "taken" ? t(/looks like/.test(error.message) ? "users.alike" : "users.taken") : undefined)}
      onSubmit=${async (/** @type {any} */ { username, password, role }) => onDone((await post("/api/users", { username, password, role })).data)}>
      <${Field} label=${t("users.name")} name="username" required focus input=${{ maxlength: 150, autocomplete: "off", spellcheck: false }} />
      <${NewPassword} />
      <${Field} label=${t("users.role")} name="role" type="select" value="user" options=${roles()} hint=${t("users.roleHint")} />
    <//>
  <//>`;
}

/** @param {{id: string}} props */
function User({ id }) {
  const user = useLoad(() => get(`/api/users/${encodeURIComponent(id)}`).then((answer) => answer.data), [id]);
  const name = user.data?.username ?? `#${id}`;
  const back = { href: link("users"), label: t("nav.users") };
  return html`<${Page} title=${name} back=${back} actions=${user.data && html`<${ButtonLink} icon="send" href=${link("messages", { user: name })}>${t("users.send")}<//>`}>
    <${Loaded} of=${user}>${(/** @type {any} */ data) => html`
      <div class="columns">
        <${Account} user=${data} reload=${user.reload} />
        <${Activity} user=${data} />
      </div>
      <${Tokens} user=${data} />
      <div class="columns">
        <${Devices} user=${data} />
        <${Clients} user=${data} />
      </div>`}<//>
  <//>`;
}

/** @param {{user: any, reload: () => Promise<void>}} props */
function Account({ user, reload }) {
  const [asking, setAsking] = useState(false);
  const path = `/api/users/${user.id}`;
  const change = async (/** @type {any} */ body) => {
    await patch(path, body);
    known.forget(user.id);
    await reload();
  };
  const other = user.role === "admin" ? "user" : "admin";
  return html`<${Card} title=${t("users.account")}>
    <${Facts} items=${[
      [t("users.name"), html`<bdi>${user.username}</bdi> ${user.id === me.value?.id && html`<${Badge} kind="info">${t("users.you")}<//>`}`],
      [t("users.id"), user.id],
      [t("users.role"), t(`ui.role.${user.role}`)],
      [t("users.state"), user.disabled ? html`<${Badge} kind="warn">${t("users.disabled")}<//>` : html`<${Badge} kind="ok">${t("users.enabled")}<//>`],
      [t("users.created"), html`<${Time} at=${user.created_at} absolute />`],
    ]} />
    <div class="adm-acts">
      <${Button} confirm=${{ title: t(`users.make.${other}.title`, { name: user.username }), text: t(`users.make.${other}.text`), action: t(`users.make.${other}`), kind: "primary" }}
        onClick=${() => change({ role: other })}>${t(`users.make.${other}`)}<//>
      ${user.disabled ? html`<${Button} key="enable" onClick=${() => change({ disabled: false })}>${t("users.enable")}<//>`
    : html`<${Button} key="disable" confirm=${{ title: t("users.disableTitle", { name: user.username }), text: t("users.disableText"), action: t("users.disable") }} onClick=${() => change({ disabled: true })}>${t("users.disable")}<//>`}
      <${Button} icon="key" onClick=${() => setAsking(true)}>${t("users.setPassword")}<//>
      <${Button} kind="danger" icon="trash" confirm=${{ title: t("users.removeTitle", { name: user.username }), text: t("users.removeText"), action: t("users.remove"), typed: user.username }}
        onClick=${async () => { await del(path); known.forget(user.id); go("users"); }}>${t("users.remove")}<//>
    </div>
    ${asking && html`<${Dialog} title=${t("users.setPasswordOf", { name: user.username })} onClose=${() => setAsking(false)}>
      <${Form} submit=${t("users.setPassword")} onCancel=${() => setAsking(false)} onSubmit=${async (/** @type {any} */ { password }) => { await change({ password }); setAsking(false); }}>
        <p class="soft">${t("users.setPasswordText")}</p>
        <${NewPassword} label=${t("users.newPassword")} />
      <//>
    <//>`}
  <//>`;
}

/** @param {{user: any}} props */
function Activity({ user }) {
  const online = useOnline()?.get(user.id);
  const queue = useLoad(() => get(`/api/queue/user/${user.id}`).then((answer) => answer.data), [user.id]);
  return html`<${Card} title=${t("users.activity")}>
    <${Facts} items=${[
      [t("users.state"), html`<${Online} on=${!!online} />`],
      [t("users.connections"), online ? html`<a href=${link("connections", { user_id: user.id })}>${number(online.connections)}</a>` : "0"],
      [t("users.lastActivity"), online ? html`<${Time} at=${online.last_activity} />` : "–"],
      [t("users.waiting"), queue.data ? html`<a href=${link("queues", "user", user.id)}>${t("users.messages", { n: queue.data.messages })}</a> <span class="soft">${bytes(queue.data.bytes)}</span>` : "–"],
      [t("users.trail"), html`<a href=${link("audit", { user_id: user.id })}>${t("users.trailShow")}</a>`],
      [t("nav.traffic"), html`<a href=${link("traffic", { user_id: user.id })}>${t("users.trafficShow")}</a>`],
    ]} />
  <//>`;
}

/** @param {{user: any}} props */
function Tokens({ user }) {
  const own = user.id === me.value?.id;
  const list = usePages("/api/auth/tokens", { user_id: user.id });
  const [adding, setAdding] = useState(false);
  const what = (/** @type {any} */ token) => token.label || t(`users.kind.${token.kind}`);
  return html`<${Card} flush title=${t("users.tokens")} about=${t("users.tokensAbout")} actions=${own && html`<${Button} icon="plus" onClick=${() => setAdding(true)}>${t("users.addToken")}<//>`}>
    <${Table} label=${t("users.tokens")} rows=${list.rows} empty=${list.loading || list.error ? null : html`<${Empty} icon="key" title=${t("users.noTokens")} text=${t("users.noTokensText")} />`}
      columns=${[
        { key: "label", title: t("users.label"), sort: what, grow: true, cell: (/** @type {any} */ row) => html`<bdi>${what(row)}</bdi> ${row.id === me.value?.token.id && html`<${Badge} kind="info">${t("users.thisSession")}<//>`}<${Narrow} parts=${[t(`users.kind.${row.kind}`), html`<${Time} at=${row.last_used_at} never=${t("ui.never")} />`]} />` },
        { key: "kind", title: t("users.kind"), sort: true, wide: true, cell: (/** @type {any} */ row) => html`${t(`users.kind.${row.kind}`)}${row.device_id ? html` · <${DeviceLink} id=${row.device_id} />` : ""}${row.scopes
          ? html` <span class="adm-badges">${row.scopes.map((/** @type {string} */ scope) => html`<${Badge} key=${scope} title=${t(`users.scope.${scope}`)}>${scope}<//>`)}</span>` : ""}` },
        { key: "last_used_at", title: t("users.lastUsed"), sort: true, wide: true, cell: (/** @type {any} */ row) => html`<${Time} at=${row.last_used_at} never=${t("ui.never")} />` },
        { key: "created_at", title: t("users.created"), sort: true, wide: true, cell: (/** @type {any} */ row) => html`<${Time} at=${row.created_at} />` },
        { key: "expires_at", title: t("users.expires"), sort: true, wide: true, cell: (/** @type {any} */ row) => html`<${Time} at=${row.expires_at} never=${t("ui.never")} />` },
        { key: "acts", title: t("users.actions"), actions: true, cell: (/** @type {any} */ row) => html`<${Button} small kind="danger" icon="trash" label=${t("users.revokeOf", { name: what(row) })}
          confirm=${{ title: t("users.revokeTitle", { name: what(row) }), text: t(row.id === me.value?.token.id ? "users.revokeOwnText" : "users.revokeText"), action: t("users.revoke") }}
          onClick=${async () => { await del(`/api/auth/tokens/${row.id}`); await list.reload(); }} />` },
      ]} />
    <${More} list=${list} />
    ${adding && html`<${AddToken} onClose=${() => setAdding(false)} onDone=${list.reload} />`}
  <//>`;
}

/** @param {{onClose: () => void, onDone: () => any}} props */
function AddToken({ onClose, onDone }) {
  const [kind, setKind] = useState("service");
  const [made, setMade] = useState(/** @type {any} */ (null));
  const days = [7, 30, 90, 365].map((n) => ({ value: String(n * 86400), label: t("users.days", { n }) }));
  if (made) {
    return html`<${Dialog} title=${t("users.tokenMade")} onClose=${onClose}>
      <${Secret} value=${made.token} label=${made.label || t(`users.kind.${made.kind}`)} qr=${false} />
      <div class="buttons"><${Button} kind="primary" onClick=${onClose}>${t("ui.close")}<//></div>
    <//>`;
  }
  return html`<${Dialog} title=${t("users.addToken")} onClose=${onClose}>
    <${Form} submit=${t("users.create")} onCancel=${onClose} onSubmit=${async (/** @type {any} */ values) => {
      const scopes = SCOPES.filter((scope) => values[`scope_${scope}`]);
      const body = { kind, ...(values.label && { label: values.label }), ...(values.expires_in && { expires_in: Number(values.expires_in) }), ...(kind === "service" && scopes.length < SCOPES.length && { scopes }) };
      const { data } = await post("/api/auth/tokens", body);
      setMade(data);
      await onDone();
    }}>
      <${Field} label=${t("users.kind")} name="kind" type="select" value=${kind} hint=${t(`users.kind.${kind}.about`)} onChange=${(/** @type {any} */ event) => setKind(event.currentTarget.value)}
        options=${["service", "user"].map((value) => ({ value, label: t(`users.kind.${value}`) }))} />
      ${kind === "service" && html`<fieldset class="users-scopes"><legend>${t("users.scopes")}</legend>
        ${SCOPES.map((scope) => html`<${Field} key=${scope} type="checkbox" name=${`scope_${scope}`} value=${scope === "send"} label=${t(`users.scope.${scope}`)} />`)}</fieldset>`}
      <${Field} label=${t("users.label")} name="label" hint=${t("users.labelHint")} input=${{ maxlength: 100, autocomplete: "off" }} />
      <${Field} label=${t("users.expires")} name="expires_in" type="select" value="" options=${[{ value: "", label: t("ui.never") }, ...days]} />
    <//>
  <//>`;
}

/** @param {{user: any}} props */
function Devices({ user }) {
  const list = usePages("/api/devices", { user_id: user.id });
  return html`<${Card} flush title=${t("nav.devices")}>
    <${Table} label=${t("nav.devices")} rows=${list.rows} empty=${list.loading || list.error ? null : html`<${Empty} icon="devices" title=${t("users.noDevices")} />`} columns=${[
      { key: "name", title: t("users.deviceName"), sort: true, grow: true, cell: (/** @type {any} */ row) => html`<${DeviceLink} id=${row.id} name=${row.name} /> ${row.primary && html`<${Badge} kind="info">${t("users.primary")}<//>`}` },
      { key: "online", title: t("users.state"), sort: (/** @type {any} */ row) => (row.online ? 0 : 1), cell: (/** @type {any} */ row) => html`<${Online} on=${row.online} />` },
    ]} />
    <${More} list=${list} />
  <//>`;
}

/** @param {{user: any}} props */
function Clients({ user }) {
  const clients = useLoad(() => get("/api/clients", { user_id: user.id }).then((answer) => answer.data), [user.id]);
  return html`<${Card} flush title=${t("users.clients")} about=${t("users.clientsAbout")}>
    ${clients.error && html`<${Failed} error=${clients.error} retry=${clients.reload} />`}
    ${!clients.data && !clients.error ? html`<${Loading} />` : html`<${Table} label=${t("users.clients")} rows=${clients.data ?? []} rowKey="name" empty=${html`<${Empty} icon="clients" title=${t("users.noClients")} />`} columns=${[
      { key: "name", title: t("users.client"), sort: true, grow: true, cell: (/** @type {any} */ row) => html`<bdi>${row.name}</bdi>` },
      { key: "waiting", title: t("users.waiting"), sort: true, number: true, cell: (/** @type {any} */ row) => number(row.waiting) },
      { key: "last_connected", title: t("users.lastConnected"), sort: true, cell: (/** @type {any} */ row) => (row.online ? html`<${Online} on />` : html`<${Time} at=${row.last_connected} />`) },
      { key: "acts", title: t("users.actions"), actions: true, cell: (/** @type {any} */ row) => html`<${Button} small kind="danger" icon="trash" label=${t("users.forgetOf", { name: row.name })}
        confirm=${{ title: t("users.forgetTitle", { name: row.name }), text: t("users.forgetText"), action: t("users.forget") }}
        onClick=${async () => { await del(`/api/clients/${encodeURIComponent(row.name)}`, { user_id: user.id }); await clients.reload(); }} />` },
    ]} />`}
  <//>`;
}
