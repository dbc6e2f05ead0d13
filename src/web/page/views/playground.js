// A client in the page: it connects, shows every frame in both directions, and sends any of the protocol's messages.
import { Badge, Button, Callout, Card, Empty, Icon, Page, Segmented, html, useEffect, useId, useMemo, useRef, useState } from "../lib/ui.js";
import { ApiError, me, post, url } from "../lib/api.js";
import { clock, number, t } from "../lib/i18n.js";
import { Pretty } from "./parts/pretty.js";
import { useSocket } from "./parts/socket.js";

/** An example of each message that clients send. @type {Record<string, () => any>} */
const EXAMPLES = {
  chat_message: () => ({ type: "chat_message", message: { content: t("playground.example.chat"), stream: true }, ref: "q1" }),
  chat_cancel: () => ({ type: "chat_cancel", message: { ref: "q1" }, ref: "c1" }),
  chat_reset: () => ({ type: "chat_reset", ref: "r1" }),
  weather: () => ({ type: "weather", message: { city: t("playground.example.city") }, ref: "w1" }),
  sing: () => ({ type: "sing", message: { song: t("playground.example.song"), action: "start" }, ref: "s1" }),
  dance: () => ({ type: "dance", message: { dance: t("playground.example.dance"), duration: "30秒" }, ref: "d1" }),
  ping: () => ({ type: "ping", ref: "p1" }),
};
const STATES = /** @type {const} */ ({ open: "ok", connecting: "info", waiting: "warn", off: "plain" });
/** How long a message to oneself is waited for. */
const ARRIVAL_MS = 10_000;
const CLIENT_NAME = /^[A-Za-z0-9._-]{1,64}$/;

/** @param {any} value */
const shown = (value) => JSON.stringify(value, null, 2);

export default function Playground() {
  const [mode, setMode] = useState("observer");
  const [name, setName] = useState("playground");
  const [byHand, setByHand] = useState(false);
  const [wanted, setWanted] = useState(true);
  const good = mode === "observer" || CLIENT_NAME.test(name);
  const settings = useMemo(() => (mode === "observer" ? { peek: true } : { client: name, byHand }), [mode, name, byHand]);
  const socket = useSocket(settings, wanted && good);
  const last = socket.log.find(({ direction, value }) => direction === "in" && typeof value?.id === "number")?.value.id;

  return html`<${Page} title=${t("nav.playground")} about=${t("playground.about")}>
    <div class="playground">
      <div class="playground-left">
        <${Hello} socket=${socket} />
        <${Composer} socket=${socket} byHand=${mode === "client" && byHand} last=${last} />
        <${Connection} mode=${mode} setMode=${setMode} name=${name} setName=${setName} good=${good} byHand=${byHand} setByHand=${setByHand} />
      </div>
      <${Log} socket=${socket} wanted=${wanted} setWanted=${setWanted} />
    </div>
  <//>`;
}

/** @typedef {ReturnType<typeof useSocket>} Socket */

/** The first thing to do: a message to oneself, which arrives on the right. @param {{socket: Socket}} props */
function Hello({ socket }) {
  const [text, setText] = useState(() => t("playground.hello"));
  const send = async () => {
    const began = performance.now();
    const { data } = await post(`/api/messages/user/${me.value?.id}`, { type: "notice", message: text });
    const arrived = await socket.arrival(data.id, ARRIVAL_MS);
    return arrived ? t("playground.arrived", { n: Math.max(1, Math.round(performance.now() - began)) }) : t("playground.late");
  };
  return html`<${Card} class="playground-hello" title=${t("playground.helloTitle")} about=${t("playground.helloText")}>
    <input class="playground-input" aria-label=${t("playground.helloLabel")} value=${text} maxlength="2000" autocomplete="off" onInput=${(/** @type {any} */ event) => setText(event.currentTarget.value)} />
    <div class="adm-acts"><${Button} kind="primary" icon="send" disabled=${!text || socket.state !== "open"} onClick=${send}>${t("playground.sendMyself")}<//></div>
  <//>`;
}

/** @param {{socket: Socket, byHand: boolean, last: number | undefined}} props */
function Composer({ socket, byHand, last }) {
  const [type, setType] = useState("chat_message");
  const [text, setText] = useState(() => shown(EXAMPLES.chat_message()));
  const types = [...Object.keys(EXAMPLES), ...(byHand ? ["ack"] : []), "custom"];
  const choose = (/** @type {string} */ next) => {
    setType(next);
    const example = next === "ack" ? { type: "ack", message: { id: last ?? 0 } } : next === "custom" ? { type: "my_type", message: {} } : EXAMPLES[next]();
    setText(shown(example));
  };
  const send = () => {
    let frame = text;
    try {
      frame = JSON.stringify(JSON.parse(text));
    } catch { /* sent as it is: what the server answers to it is worth seeing, too */ }
    if (!socket.send(frame)) throw new ApiError(0, { message: t("playground.notConnected") });
  };
  return html`<${Card} class="playground-compose" title=${t("playground.compose")} about=${t("playground.composeText")}>
    <div class="playground-types" role="group" aria-label=${t("playground.types")}>${types.map((entry) => html`
      <button type="button" key=${entry} class="button small" aria-pressed=${entry === type ? "true" : "false"} title=${t(`playground.type.${entry}`)} onClick=${() => choose(entry)}>${entry === "custom" ? t("playground.custom") : entry}</button>`)}</div>
    <p class="soft playground-about">${t(`playground.type.${type}`)}</p>
    <textarea class="mono" rows="10" aria-label=${t("playground.frame")} spellcheck=${false} value=${text} onInput=${(/** @type {any} */ event) => setText(event.currentTarget.value)}
      onKeyDown=${(/** @type {KeyboardEvent} */ event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); if (socket.state === "open") send(); } }}></textarea>
    <div class="adm-acts"><${Button} kind="primary" disabled=${socket.state !== "open"} onClick=${send}>${t("playground.send")}<//><span class="soft">${t("playground.keys")}</span></div>
  <//>`;
}

/**
 * @param {{mode: string, setMode: (mode: string) => void, name: string, setName: (name: string) => void, good: boolean, byHand: boolean, setByHand: (on: boolean) => void}} props
 */
function Connection({ mode, setMode, name, setName, good, byHand, setByHand }) {
  const [typed, setTyped] = useState(name);
  const [id, tick] = [useId(), useId()];
  useEffect(() => {
    const timer = setTimeout(() => setName(typed), 500); // not a connection for each letter
    return () => clearTimeout(timer);
  }, [typed]);
  const where = url("/ws/device/", mode === "observer" ? { peek: 1 } : { client: name, ack: "client" });
  where.protocol = where.protocol.replace("http", "ws");
  return html`<${Card} class="playground-connection" title=${t("playground.connection")}>
    <div><${Segmented} label=${t("playground.mode")} value=${mode} onChange=${setMode} options=${["observer", "client"].map((value) => ({ value, label: t(`playground.mode.${value}`) }))} /></div>
    <p class="soft playground-about">${t(`playground.mode.${mode}.about`)}</p>
    ${mode === "client" && html`<div class="field"><label for=${id}>${t("playground.name")}</label><input id=${id} class="mono" value=${typed} maxlength="64" autocomplete="off" spellcheck=${false} aria-invalid=${good ? undefined : "true"} aria-describedby=${`${id}h`}
        onInput=${(/** @type {any} */ event) => setTyped(event.currentTarget.value)} /><small id=${`${id}h`} class=${good ? "" : "bad"}>${t("playground.nameHint")}</small></div>
      <div class="field tick"><input id=${tick} type="checkbox" checked=${byHand} onChange=${(/** @type {any} */ event) => setByHand(event.currentTarget.checked)} /><label for=${tick}>${t("playground.byHand")}</label></div>
      <${Callout} kind="warn">${t("playground.clientNote")}<//>`}
    <p class="playground-url mono">${String(where)}&ticket=…</p>
  <//>`;
}

/** @param {{socket: Socket, wanted: boolean, setWanted: (wanted: boolean) => void}} props */
function Log({ socket, wanted, setWanted }) {
  const { log, state } = socket;
  const [open, setOpen] = useState(true);
  const [sent, received] = [log.filter(({ direction }) => direction === "out").length, log.filter(({ direction }) => direction === "in").length];
  return html`<${Card} flush class="playground-log" title=${html`${t("playground.frames")} <${Badge} kind=${STATES[state]}>${t(`playground.state.${state}`)}<//>`} about=${t("playground.counts", { sent, received })} actions=${html`
      <${Button} small pressed=${open} onClick=${() => setOpen(!open)}>${t("playground.details")}<//>
      <${Button} small onClick=${socket.clear}>${t("playground.clear")}<//>
      <${Button} small onClick=${() => setWanted(!wanted)}>${t(wanted ? "playground.disconnect" : "playground.connect")}<//>`}>
    ${log.length ? html`<div class="playground-scroll" role="log" aria-label=${t("playground.frames")} tabindex="0"><ol class="playground-entries">${log.map((entry) => html`<${Entry} key=${entry.n} entry=${entry} open=${open} />`)}</ol></div>`
    : html`<${Empty} icon="playground" title=${t("playground.none")} text=${t("playground.noneText")} />`}
  <//>`;
}

/** @param {{entry: import("./parts/socket.js").Entry, open: boolean}} props */
function Entry({ entry, open }) {
  const [own, setOwn] = useState(/** @type {boolean | null} */ (null));
  const all = useRef(open);
  if (all.current !== open) {
    all.current = open;
    if (own !== null) setOwn(null);
  }
  const { direction, type, at, text, value, code } = entry;
  if (direction === "note") {
    return html`<li class=${`note-line ${type}`}><time class="mono soft">${clock(at, true)}</time> <span>${type === "closed" ? t("playground.closed", { code: String(code), reason: text || "–" }) : t(`playground.note.${type}`, { reason: text })}</span></li>`;
  }
  const shut = !(own ?? open);
  return html`<li class=${`${direction} ${type === "error" || type === "disconnect" ? "bad" : ""}`}>
    <button type="button" class="playground-line" aria-expanded=${shut ? "false" : "true"} onClick=${() => setOwn(shut)}>
      <span class="playground-arrow"><${Icon} name=${direction === "in" ? "in" : "up"} /><span class="hidden">${t(`playground.${direction}`)}</span></span>
      <b><bdi>${type}</bdi></b>${typeof value?.id === "number" && html`<span class="soft">#${value.id}</span>`}
      ${shut && html`<code>${text.slice(0, 200)}</code>`}
      <span class="soft mono">${number(text.length, 0)} B</span><time class="soft mono">${clock(at, true)}</time>
    </button>
    ${!shut && (value === undefined ? html`<pre class="pretty"><code>${text}</code></pre>` : html`<${Pretty} value=${value} label=${type} />`)}
  </li>`;
}
