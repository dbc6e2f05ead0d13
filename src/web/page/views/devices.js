// The devices: a list with the last day of each, adding one by its pairing code, and everything about one.
import {
  Badge, Button, ButtonLink, Card, Dialog, Empty, Facts, Field, Form, Loaded, More, Online, OnlineBars, Page, Search, Secret, Table, Time, html, useEffect, useLoad, useMemo,
  usePages, useRef, useState,
} from "../lib/ui.js";
import { ApiError, all, del, get, me, patch, post, put } from "../lib/api.js";
import { bytes, t } from "../lib/i18n.js";
import { usePoll } from "../lib/live.js";
import { go, link } from "../lib/router.js";
import { Snippets } from "../lib/snippets.js";
import { Narrow } from "./parts/narrow.js";
import { UserLink, devices as known, findUser, useSuggestions, users } from "./parts/people.js";

const POLL_MS = 15_000;
/** A day in slots of ten minutes changes no faster. */
const PRESENCE_MS = 300_000;
/** The most bars of devices that are read at the same time. */
const PRESENCE_AT_ONCE = 4;

/** @param {{params: string[], query: Record<string, string>}} props */
export default function Devices({ params, query }) {
  return params[0] ? html`<${Device} key=${params[0]} id=${params[0]} />` : html`<${List} query=${query} />`;
}

/** What was read of each device, so that scrolling back reads nothing. @type {Map<number, {at: number, data: any}>} */
const presences = new Map();
let reading = 0;
/** @type {(() => void)[]} */
const waiting = [];

/**
 * Reads the last day of a device, a few at a time.
 * @param {number} id
 * @param {() => boolean} wanted whether anybody still looks at it when its turn comes
 */
async function presence(id, wanted) {
  const held = presences.get(id);
  if (held && Date.now() - held.at < PRESENCE_MS) return held.data;
  if (reading >= PRESENCE_AT_ONCE) await new Promise((next) => { waiting.push(() => next(undefined)); });
  if (!wanted()) {
    waiting.shift()?.();
    return undefined;
  }
  reading += 1;
  try {
    const { data } = await get(`/api/devices/${id}/presence`);
    presences.delete(id);
    presences.set(id, { at: Date.now(), data });
    if (presences.size > 2000) presences.delete(presences.keys().next().value ?? 0);
    return data;
  } finally {
    reading -= 1;
    waiting.shift()?.();
  }
}

/**
 * The last day of a device; read once its row comes into view.
 * @param {{id: number}} props
 */
function Bars({ id }) {
  const ref = useRef(/** @type {HTMLElement | null} */ (null));
  const [data, setData] = useState(presences.get(id)?.data);
  useEffect(() => {
    const element = ref.current;
    if (!element) return undefined;
    let seen = false;
    const watcher = new IntersectionObserver(async ([entry]) => {
      seen = entry.isIntersecting;
      if (!seen) return;
      const found = await presence(id, () => seen).catch(() => undefined);
      if (found) setData(found);
    });
    watcher.observe(element);
    return () => { seen = false; watcher.disconnect(); };
  }, [id]);
  return html`<div class="devices-bars" ref=${ref}>${data && html`<${OnlineBars} slots=${data.slots} from=${data.from} seconds=${data.slot_seconds} />`}</div>`;
}

/** @param {{query: Record<string, string>}} props */
function List({ query }) {
  const list = usePages("/api/devices");
  const [text, setText] = useState("");
  const [dialog, setDialog] = useState(query.pair !== undefined ? "columns" : "");
  usePoll(() => { if (!list.loading) list.reload(); }, POLL_MS);
  useEffect(() => known.keep(list.rows), [list.rows]);
  const rows = useMemo(() => {
    const wanted = text.trim().toLowerCase();
    if (!wanted) return list.rows;
    return list.rows.filter((row) => `${row.name} ${row.serial ?? ""} ${row.model ?? ""} #${row.id} ${row.user_ids.map((/** @type {number} */ id) => users.of(id)?.username ?? "").join(" ")}`.toLowerCase().includes(wanted));
  }, [list.rows, text]);
  const close = () => setDialog("");
  const pair = html`<${Button} kind="primary" icon="plus" onClick=${() => setDialog("pair")}>${t("devices.pair")}<//>`;
  return html`<${Page} title=${t("nav.devices")} actions=${html`<${Button} onClick=${() => setDialog("add")}>${t("devices.add")}<//>${pair}`}>
    <${Card} flush>
      <div class="adm-filters"><${Search} label=${t("devices.search")} wide value=${text} onInput=${setText} /></div>
      <${Table} label=${t("nav.devices")} rows=${rows} class="devices-table"
        empty=${list.loading || list.error ? null : text ? html`<${Empty} icon="search" title=${t("devices.noneFound")} text=${list.hasMore ? t("devices.noneFoundMore") : undefined} />`
    : html`<${Empty} icon="devices" title=${t("devices.none")} text=${t("devices.noneText")} action=${pair} />`}
        columns=${[
          { key: "name", title: t("devices.name"), sort: true, grow: true, cell: (/** @type {any} */ row) => html`<a href=${link("devices", row.id)}><bdi>${row.name}</bdi></a>${row.primary
            ? html` <${Badge} kind="info">${t("devices.primary")}<//>` : ""}<${Narrow} parts=${[html`<${Owners} ids=${row.user_ids} />`]} />` },
          { key: "owners", title: t("devices.owners"), sort: (/** @type {any} */ row) => users.of(row.user_ids[0])?.username ?? "", wide: true, cell: (/** @type {any} */ row) => html`<${Owners} ids=${row.user_ids} />` },
          { key: "last_seen", title: t("devices.seen"), sort: (/** @type {any} */ row) => (row.online ? -Infinity : row.last_seen ? -Date.parse(row.last_seen) : 0), cell: (/** @type {any} */ row) => (row.online
            ? html`<${Online} on />` : html`<span class="online"><i aria-hidden="true"></i><${Time} at=${row.last_seen} never=${t("ui.never")} /></span>`) },
          { key: "bars", title: t("devices.day"), wide: true, cell: (/** @type {any} */ row) => html`<${Bars} key=${row.id} id=${row.id} />` },
          { key: "model", title: t("devices.model"), sort: true, wide: true, cell: (/** @type {any} */ row) => html`<span class="soft">${[row.model, row.serial].filter(Boolean).join(" · ") || "–"}</span>` },
        ]} />
      <${More} list=${list} />
    <//>
    ${dialog === "pair" && html`<${Pair} onClose=${close} onDone=${list.reload} />`}
    ${dialog === "add" && html`<${Add} onClose=${close} />`}
  <//>`;
}

/** @param {{ids: number[]}} props */
function Owners({ ids }) {
  if (!ids.length) return html`<${Badge} kind="warn">${t("devices.noOwner")}<//>`;
  return html`<span class="devices-owners">${ids.slice(0, 2).map((id) => html`<${UserLink} key=${id} id=${id} />`)}${ids.length > 2 ? html`<span class="soft">+${ids.length - 2}</span>` : ""}</span>`;
}

/** The field for the owner of a new device. */
function OwnerField() {
  const { input, list } = useSuggestions("users");
  return html`<${Field} label=${t("devices.owner")} name="owner" value=${me.value?.username} required input=${input} />${list}`;
}

/** @param {{onClose: () => void, onDone: () => any}} props */
function Pair({ onClose, onDone }) {
  const [made, setMade] = useState(/** @type {any} */ (null));
  if (made) {
    return html`<${Dialog} title=${t("devices.paired")} onClose=${onClose}>
      <p>${t("devices.pairedText", { name: made.name })}</p>
      <div class="buttons"><${ButtonLink} kind="primary" href=${link("devices", made.id)}>${t("devices.open")}<//><${Button} onClick=${onClose}>${t("ui.close")}<//></div>
    <//>`;
  }
  return html`<${Dialog} title=${t("devices.pair")} onClose=${onClose}>
    <${Form} submit=${t("devices.pairIt")} onCancel=${onClose} explain=${(/** @type {string} */ code, /** @type {any} */ error) => (code === "not_found" ? t("devices.wrongCode") : code === "taken" ? t("devices.serialTaken") : error.code ? undefined : error.message)}
      onSubmit=${async (/** @type {any} */ { code, owner, name, primary }) => {
        const user = await findUser(owner);
        const { data } = await post("/api/devices/claim", { code, user_id: user.id, ...(name && { name }), ...(primary && { primary: true }) });
        setMade(data);
        await onDone();
      }}>
      <p class="soft">${t("devices.pairText")}</p>
      <${Field} label=${t("devices.code")} name="code" required focus mono input=${{ maxlength: 9, autocomplete: "off", autocapitalize: "characters", spellcheck: false, placeholder: "K7M-2PX", class: "devices-code mono" }} />
      <${OwnerField} />
      <${Field} label=${t("devices.nameOptional")} name="name" input=${{ maxlength: 100, autocomplete: "off" }} />
      <${Field} label=${t("devices.makePrimary")} name="primary" type="checkbox" />
    <//>
  <//>`;
}

/** @param {{onClose: () => void}} props */
function Add({ onClose }) {
  return html`<${Dialog} title=${t("devices.add")} onClose=${onClose}>
    <${Form} submit=${t("devices.create")} onCancel=${onClose} explain=${(/** @type {string} */ code) => (code === "taken" ? t("devices.serialTaken") : undefined)}
      onSubmit=${async (/** @type {any} */ { name, owner, serial, model, primary }) => {
        const user = await findUser(owner);
        const { data } = await post("/api/devices", { name, user_id: user.id, primary, ...(serial && { serial }), ...(model && { model }) });
        go("devices", data.id);
      }}>
      <p class="soft">${t("devices.addText")}</p>
      <${Field} label=${t("devices.name")} name="name" required focus input=${{ maxlength: 100, autocomplete: "off" }} />
      <${OwnerField} />
      <${Field} label=${t("devices.serialOptional")} name="serial" input=${{ maxlength: 100, autocomplete: "off" }} />
      <${Field} label=${t("devices.modelOptional")} name="model" input=${{ maxlength: 100, autocomplete: "off" }} />
      <${Field} label=${t("devices.makePrimary")} name="primary" type="checkbox" />
    <//>
  <//>`;
}

/** @param {{id: string}} props */
function Device({ id }) {
  const path = `/api/devices/${encodeURIComponent(id)}`;
  const device = useLoad(() => get(path).then((answer) => answer.data), [id]);
  usePoll(() => { if (device.data) device.reload(); }, POLL_MS, [id]);
  const [dialog, setDialog] = useState("");
  const data = device.data;
  const reload = async () => {
    known.forget(Number(id));
    await device.reload();
  };
  return html`<${Page} title=${data?.name ?? `#${id}`} back=${{ href: link("devices"), label: t("nav.devices") }} actions=${data && html`
      <${ButtonLink} icon="send" href=${link("messages", { device: data.id })}>${t("devices.send")}<//>
      <${Button} kind="primary" icon="key" onClick=${() => setDialog("token")}>${t("devices.newToken")}<//>`}>
    <${Loaded} of=${device}>${(/** @type {any} */ device) => html`
      <${Card} title=${t("devices.day")}><${Bars} id=${device.id} /><//>
      <div class="columns">
        <${About} device=${device} edit=${() => setDialog("edit")} />
        <${OwnersOf} device=${device} reload=${reload} />
      </div>
      <${Tokens} key=${device.user_ids.join()} device=${device} changed=${dialog} />
      ${dialog === "edit" && html`<${Edit} device=${device} onClose=${() => setDialog("")} onDone=${reload} />`}
      ${dialog === "token" && html`<${NewToken} device=${device} onClose=${() => setDialog("")} />`}`}<//>
  <//>`;
}

/** @param {{device: any, edit: () => void}} props */
function About({ device, edit }) {
  const queue = useLoad(() => get(`/api/queue/device/${device.id}`).then((answer) => answer.data), [device.id]);
  return html`<${Card} title=${t("devices.about")} actions=${html`<${Button} small icon="edit" onClick=${edit}>${t("devices.edit")}<//>`}>
    <${Facts} items=${[
      [t("devices.state"), html`<${Online} on=${device.online} />`],
      [t("devices.seen"), device.online ? t("devices.now") : html`<${Time} at=${device.last_seen} never=${t("ui.never")} />`],
      [t("devices.id"), device.id],
      [t("devices.serial"), device.serial ? html`<bdi>${device.serial}</bdi>` : "–"],
      [t("devices.model"), device.model ? html`<bdi>${device.model}</bdi>` : "–"],
      [t("devices.maxBytes"), device.max_bytes ? bytes(device.max_bytes) : t("devices.noLimit")],
      [t("devices.added"), html`<${Time} at=${device.created_at} absolute />`],
      [t("devices.queue"), queue.data ? html`<a href=${link("queues", "device", device.id)}>${t("devices.messages", { n: queue.data.messages })}</a>` : "–"],
      [t("nav.connections"), html`<a href=${link("connections", { device_id: device.id })}>${t("devices.show")}</a>`],
      [t("nav.traffic"), html`<a href=${link("traffic", { device_id: device.id })}>${t("devices.watch")}</a>`],
    ]} />
    <div class="adm-acts"><${Button} kind="danger" icon="trash" confirm=${{ title: t("devices.removeTitle", { name: device.name }), text: t("devices.removeText"), action: t("devices.remove") }}
      onClick=${async () => { await del(`/api/devices/${device.id}`); known.forget(device.id); go("devices"); }}>${t("devices.remove")}<//></div>
  <//>`;
}

/** @param {{device: any, reload: () => Promise<void>}} props */
function OwnersOf({ device, reload }) {
  const { input, list } = useSuggestions("users");
  // Of each owner, whether it is the primary one: the server tells that of one user at a time.
  const primary = useLoad(async () => {
    const found = await Promise.all(device.user_ids.slice(0, 20).map(async (/** @type {number} */ id) => {
      const mine = await all("/api/devices", { user_id: id }, 1000);
      return mine.find((entry) => entry.id === device.id)?.primary ? id : null;
    }));
    return new Set(found.filter(Boolean));
  }, [device.id, device.user_ids.join()]);
  const change = async (/** @type {number[]} */ ids) => {
    await patch(`/api/devices/${device.id}`, { user_ids: ids });
    await reload();
  };
  return html`<${Card} flush title=${t("devices.owners")} about=${t("devices.ownersAbout")}>
    <${Table} label=${t("devices.owners")} rowKey="id" rows=${device.user_ids.map((/** @type {number} */ id) => ({ id }))} empty=${html`<${Empty} icon="users" title=${t("devices.noOwner")} />`} columns=${[
      { key: "name", title: t("devices.owner"), grow: true, cell: (/** @type {any} */ { id }) => html`<${UserLink} id=${id} /> ${primary.data?.has(id) && html`<${Badge} kind="info">${t("devices.primary")}<//>`}` },
      { key: "acts", title: t("devices.actions"), actions: true, cell: (/** @type {any} */ { id }) => html`
        <${Button} small disabled=${!primary.data || primary.data.has(id)} onClick=${async () => { await put(`/api/devices/${device.id}/primary`, { user_id: id }); await Promise.all([primary.reload(), reload()]); }}>${t("devices.setPrimary")}<//>
        <${Button} small kind="danger" icon="close" label=${t("devices.unbindOf", { name: users.of(id)?.username ?? `#${id}` })}
          confirm=${{ title: t("devices.unbindTitle", { name: users.of(id)?.username ?? `#${id}` }), text: t("devices.unbindText"), action: t("devices.unbind") }}
          onClick=${() => change(device.user_ids.filter((/** @type {number} */ other) => other !== id))} />` },
    ]} />
    <${Form} inline submit=${t("devices.bind")} reset onSubmit=${async (/** @type {any} */ { owner }) => {
      const user = await findUser(owner);
      if (device.user_ids.includes(user.id)) throw new ApiError(409, { message: t("devices.isOwner", { name: user.username }) });
      await change([...device.user_ids, user.id]);
    }}><${Field} label=${t("devices.newOwner")} name="owner" required input=${input} />${list}<//>
  <//>`;
}

/** The tokens of the device, which belong to its owners. @param {{device: any, changed: string}} props */
function Tokens({ device, changed }) {
  const tokens = useLoad(async () => (await Promise.all(device.user_ids.slice(0, 20).map(async (/** @type {number} */ user) => (
    (await all("/api/auth/tokens", { user_id: user }, 1000)).filter((token) => token.device_id === device.id).map((token) => ({ ...token, user }))
  )))).flat(), [device.id]);
  useEffect(() => { if (!changed) tokens.reload(); }, [changed]);
  return html`<${Card} flush title=${t("devices.tokens")} about=${t("devices.tokensAbout")}>
    <${Loaded} of=${tokens}>${(/** @type {any[]} */ rows) => html`<${Table} label=${t("devices.tokens")} rows=${rows} empty=${html`<${Empty} icon="key" title=${t("devices.noTokens")} text=${t("devices.noTokensText")} />`} columns=${[
      { key: "label", title: t("devices.label"), grow: true, cell: (/** @type {any} */ row) => html`<bdi>${row.label || t("devices.token")}</bdi>` },
      { key: "user", title: t("devices.owner"), wide: true, cell: (/** @type {any} */ row) => html`<${UserLink} id=${row.user} />` },
      { key: "last_used_at", title: t("devices.lastUsed"), cell: (/** @type {any} */ row) => html`<${Time} at=${row.last_used_at} never=${t("ui.never")} />` },
      { key: "expires_at", title: t("devices.expires"), wide: true, cell: (/** @type {any} */ row) => html`<${Time} at=${row.expires_at} never=${t("ui.never")} />` },
      { key: "acts", title: t("devices.actions"), actions: true, cell: (/** @type {any} */ row) => html`<${Button} small kind="danger" icon="trash" label=${t("devices.revoke")}
        confirm=${{ title: t("devices.revokeTitle"), text: t("devices.revokeText"), action: t("devices.revoke") }} onClick=${async () => { await del(`/api/auth/tokens/${row.id}`); await tokens.reload(); }} />` },
    ]} />`}<//>
  <//>`;
}

/** @param {{device: any, onClose: () => void, onDone: () => any}} props */
function Edit({ device, onClose, onDone }) {
  return html`<${Dialog} title=${t("devices.edit")} onClose=${onClose}>
    <${Form} submit=${t("ui.save")} onCancel=${onClose} explain=${(/** @type {string} */ code) => (code === "taken" ? t("devices.serialTaken") : undefined)}
      onSubmit=${async (/** @type {any} */ { name, serial, model, max_bytes: most }) => {
        await patch(`/api/devices/${device.id}`, { name, serial: serial || null, model: model || null, max_bytes: most ?? null });
        await onDone();
        onClose();
      }}>
      <${Field} label=${t("devices.name")} name="name" value=${device.name} required focus input=${{ maxlength: 100, autocomplete: "off" }} />
      <${Field} label=${t("devices.serial")} name="serial" value=${device.serial ?? ""} input=${{ maxlength: 100, autocomplete: "off" }} />
      <${Field} label=${t("devices.model")} name="model" value=${device.model ?? ""} input=${{ maxlength: 100, autocomplete: "off" }} />
      <${Field} label=${t("devices.maxBytes")} name="max_bytes" type="number" value=${device.max_bytes ?? ""} hint=${t("devices.maxBytesHint")} input=${{ min: 1024, step: 1 }} />
    <//>
  <//>`;
}

/** @param {{device: any, onClose: () => void}} props */
function NewToken({ device, onClose }) {
  const [made, setMade] = useState(/** @type {any} */ (null));
  if (made) {
    return html`<${Dialog} wide title=${t("devices.tokenMade", { name: device.name })} onClose=${onClose}>
      <${Secret} value=${made.token} label=${t("devices.tokenOf", { name: device.name })} />
      <h3>${t("devices.snippets")}</h3>
      <${Snippets} token=${made.token} />
      <div class="buttons"><${Button} kind="primary" onClick=${onClose}>${t("ui.close")}<//></div>
    <//>`;
  }
  return html`<${Dialog} title=${t("devices.newToken")} onClose=${onClose}>
    <${Form} submit=${t("devices.create")} onCancel=${onClose} onSubmit=${async (/** @type {any} */ { label, expires_in: seconds }) => {
      setMade((await post(`/api/devices/${device.id}/token`, { ...(label && { label }), ...(seconds && { expires_in: Number(seconds) }) })).data);
    }}>
      <p class="soft">${t("devices.newTokenText")}</p>
      <${Field} label=${t("devices.labelOptional")} name="label" focus input=${{ maxlength: 100, autocomplete: "off" }} />
      <${Field} label=${t("devices.expires")} name="expires_in" type="select" value="" options=${[{ value: "", label: t("ui.never") },
        ...[1, 30, 365].map((n) => ({ value: String(n * 86400), label: t("devices.days", { n }) }))]} />
    <//>
  <//>`;
}
