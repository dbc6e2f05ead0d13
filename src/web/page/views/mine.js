// A user's own devices: pair, ring, rename, tokens, remove.
import { Badge, Button, Card, Dialog, Empty, Facts, Field, Form, More, Online, OnlineBars, Page, Secret, Status, Time, confirm, html, useLoad, usePages, useState } from "../lib/ui.js";
import { del, get, me, patch, post, put, whoAmI } from "../lib/api.js";
import { t } from "../lib/i18n.js";
import { useLive, usePoll } from "../lib/live.js";
import { PairDialog } from "../lib/pairing.js";
import { FINAL, readReceipts, useReceipts } from "../lib/receipts.js";
import { Snippets } from "../lib/snippets.js";

const REFRESH_MS = 10_000;
/** The type of the message that lets a device be found. */
const RING = "ring";

export default function Mine() {
  const user = me.value?.id;
  const list = usePages("/api/devices", { user_id: me.value?.role === "admin" ? user : undefined });
  const [pairing, setPairing] = useState(false);
  const [paired, setPaired] = useState(/** @type {number | null} */ (null));
  usePoll(list.reload, REFRESH_MS, []);
  useLive("connections", null, (frame) => { if (frame.type === "connections") list.reload(); });
  const add = html`<${Button} kind="primary" icon="plus" onClick=${() => setPairing(true)}>${t("mine.pair")}<//>`;
  return html`<${Page} title=${t("nav.mine")} about=${t("mine.about")} actions=${add}>
    ${list.rows.length > 0 && html`<div class="device-grid">${list.rows.map((device) => html`<${Device} key=${device.id} device=${device} fresh=${device.id === paired} reload=${list.reload} />`)}</div>`}
    ${!list.rows.length && !list.loading && !list.error && html`<${Card}><${Empty} icon="devices" title=${t("mine.none")} text=${t("mine.none.text")} action=${html`<${Button} icon="plus" onClick=${() => setPairing(true)}>${t("mine.pair")}<//>`} /><//>`}
    <${More} list=${list} />
    ${pairing && html`<${PairDialog} onClose=${() => setPairing(false)} onPaired=${async (/** @type {any} */ device) => {
      setPairing(false);
      setPaired(device.id);
      await list.reload();
    }} />`}
  <//>`;
}

/** @param {{device: any, fresh: boolean, reload: () => Promise<void>}} props `fresh`: it has just been paired */
function Device({ device, fresh, reload }) {
  const [dialog, setDialog] = useState(/** @type {"edit" | "token" | null} */ (null));
  const waiting = useLoad(() => get(`/api/queue/device/${device.id}`).then((answer) => answer.data), [device.id, device.online, device.last_seen]);
  const presence = useLoad(() => get(`/api/devices/${device.id}/presence`).then((answer) => answer.data), [device.id, device.online]);
  const close = () => setDialog(null);
  return html`<${Card} class="device">
    <div class="head"><div><h2 class="name">${device.name}</h2><p class="soft">${[device.model, device.serial, `#${device.id}`].filter(Boolean).map((text, n) => html`${n ? " · " : ""}<bdi>${text}</bdi>`)}</p></div>
      ${device.primary && html`<${Badge} kind="info">${t("mine.primary")}<//>`}</div>
    ${fresh && !device.online && html`<p class="note ok" role="status">${t("mine.paired")}</p>`}
    <${Facts} items=${[
      [t("mine.state"), device.online ? html`<${Online} on />` : html`<${Online} on=${false} /> <span class="soft">· <${Time} at=${device.last_seen} never=${t("mine.never")} /></span>`],
      waiting.data && [t("mine.waiting"), t("mine.waiting.n", { n: waiting.data.messages })],
    ]} />
    ${presence.data && html`<${OnlineBars} slots=${presence.data.slots} from=${presence.data.from} seconds=${presence.data.slot_seconds} />`}
    <${Ring} device=${device} />
    <div class="row">
      ${!device.primary && html`<${Button} small icon="star" onClick=${async () => {
        await put(`/api/devices/${device.id}/primary`);
        await Promise.all([reload(), whoAmI()]);
      }}>${t("mine.setPrimary")}<//>`}
      <${Button} small icon="edit" onClick=${() => setDialog("edit")}>${t("mine.edit")}<//>
      <${Button} small icon="key" onClick=${() => setDialog("token")}>${t("mine.token")}<//>
      <${Button} small kind="danger" icon="trash" onClick=${async () => {
        if (!(await confirm({ title: t("mine.remove.title", { name: device.name }), text: t("mine.remove.text"), action: t("mine.remove") }))) return;
        await del(`/api/devices/${device.id}`);
        await reload();
      }}>${t("mine.remove")}<//>
    </div>
    ${dialog === "edit" && html`<${Dialog} title=${t("mine.edit.title", { name: device.name })} onClose=${close}>
      <${Form} submit=${t("ui.save")} onCancel=${close} onSubmit=${async (/** @type {any} */ { name, model }) => {
        await patch(`/api/devices/${device.id}`, { name, model: model || null });
        close();
        await reload();
      }}>
        <${Field} label=${t("mine.name")} name="name" value=${device.name} required focus input=${{ maxlength: 100, autocomplete: "off" }} />
        <${Field} label=${t("mine.model")} name="model" value=${device.model} input=${{ maxlength: 100, autocomplete: "off" }} />
      <//>
    <//>`}
    ${dialog === "token" && html`<${TokenDialog} device=${device} onClose=${close} />`}
  <//>`;
}

/** Rings a device: a message to it, whose way is followed until it has arrived. @param {{device: any}} props */
function Ring({ device }) {
  const [sent, setSent] = useState(/** @type {{id: number, status: string} | null} */ (null));
  const show = (/** @type {Map<number, any>} */ read) => setSent((before) => (before && read.has(before.id) ? { id: before.id, status: read.get(before.id).status } : before));
  useReceipts((id) => id === sent?.id, () => (sent && !FINAL.has(sent.status) ? [sent.id] : []), show);
  return html`<div class="row">
    <${Button} icon="bell" onClick=${async () => {
      setSent(null);
      const { data } = await post(`/api/messages/device/${device.id}`, { type: RING, message: { seconds: 10 }, ttl: 300 });
      setSent({ id: data.id, status: "queued" });
      show(await readReceipts([data.id]));
    }}>${t("mine.ring")}<//>
    <span role="status">${sent && html`<${Status} status=${sent.status} />`}</span>
    ${sent && !FINAL.has(sent.status) && !device.online && html`<span class="soft">${t("mine.ring.later")}</span>`}
  </div>`;
}

/** Makes a token for a device, and shows it this once. @param {{device: any, onClose: () => void}} props */
function TokenDialog({ device, onClose }) {
  const [made, setMade] = useState(/** @type {any} */ (null));
  return html`<${Dialog} title=${t("mine.token.title", { name: device.name })} wide=${!!made} onClose=${onClose}>
    ${made ? html`<${Secret} value=${made.token} label=${t("mine.token.of", { name: device.name })} /><h3>${t("mine.token.use")}</h3><${Snippets} token=${made.token} />`
      : html`<p>${t("mine.token.text")}</p>
      <${Form} submit=${t("mine.token.make")} onCancel=${onClose} onSubmit=${async (/** @type {any} */ { label }) => {
        const answer = await post(`/api/devices/${device.id}/token`, label ? { label } : {});
        setMade(answer.data);
      }}><${Field} label=${t("mine.token.label")} name="label" focus input=${{ maxlength: 100, autocomplete: "off" }} /><//>`}
  <//>`;
}
