// What passes through the server, as it passes: a tail with filters, which can be held.
import { Badge, Button, Callout, Card, Empty, Facts, Failed, Field, Form, Icon, Page, Segmented, Table, html, useEffect, useMemo, useRef, useState } from "../lib/ui.js";
import { ApiError } from "../lib/api.js";
import { bytes, clock, number, t } from "../lib/i18n.js";
import { hello, state, useLive } from "../lib/live.js";
import { link, setQuery } from "../lib/router.js";
import { Narrow } from "./parts/narrow.js";
import { DeviceLink, UserLink, findDevice, findUser, useSuggestions, users } from "./parts/people.js";
import { Pretty, brief } from "./parts/pretty.js";

/** The most entries that are held. */
const MOST = 1000;
/** New entries are shown together, so that reading stays possible. */
const SHOW_MS = 250;

/** @param {Record<string, string>} query */
function filterOf(query) {
  /** @type {Record<string, any>} */
  const filter = {};
  for (const name of ["user_id", "device_id"]) if (/^\d{1,15}$/.test(query[name] ?? "")) filter[name] = Number(query[name]);
  for (const name of ["type", "direction"]) if (query[name]) filter[name] = query[name];
  return filter;
}

/**
 * The tail: what has come, newest first.
 * @param {Record<string, any>} filter
 * @param {boolean} held nothing new is shown, and nothing that is shown goes
 */
function useTail(filter, held) {
  const [shown, setShown] = useState(/** @type {any[]} */ ([]));
  const [counts, setCounts] = useState({ lost: 0, waiting: 0 });
  const [error, setError] = useState(/** @type {unknown} */ (null));
  const fresh = useRef({ items: /** @type {any[]} */ ([]), lost: 0, number: 0, changed: false });
  const latest = useRef(held);
  latest.current = held;
  const clear = () => {
    fresh.current.items = [];
    setShown([]);
    setCounts({ lost: 0, waiting: 0 });
  };
  useEffect(clear, [JSON.stringify(filter)]);
  useLive("traffic", Object.keys(filter).length ? filter : null, (frame) => {
    const tail = fresh.current;
    if (frame.type === "error") return setError(new ApiError(403, { code: frame.code, message: frame.message }));
    if (frame.type === "subscribed") return setError(null);
    if (frame.type === "lost") tail.lost += frame.count;
    if (frame.type === "traffic") {
      for (const item of frame.items) {
        tail.number += 1;
        tail.items.push({ ...item, n: tail.number });
      }
      const over = Math.max(0, tail.items.length - MOST);
      tail.items.splice(0, over);
      if (latest.current) tail.lost += over;
    }
    tail.changed = true;
    return undefined;
  });
  useEffect(() => {
    const timer = setInterval(() => {
      const tail = fresh.current;
      if (document.hidden || !tail.changed) return;
      tail.changed = false;
      const lost = tail.lost;
      if (latest.current) {
        setCounts((before) => ({ lost: before.lost + lost, waiting: tail.items.length }));
      } else {
        const items = tail.items.reverse();
        tail.items = [];
        setShown((before) => [...items, ...before].slice(0, MOST));
        setCounts((before) => ({ lost: before.lost + lost, waiting: 0 }));
      }
      tail.lost = 0;
    }, SHOW_MS);
    return () => clearInterval(timer);
  }, []);
  useEffect(() => { fresh.current.changed = true; }, [held]);
  return { shown, error, clear, ...counts };
}

/** @param {{query: Record<string, string>}} props */
export default function Traffic({ query }) {
  const filter = useMemo(() => filterOf(query), [JSON.stringify(query)]);
  const [paused, setPaused] = useState(false);
  const [scrolled, setScrolled] = useState(false);
  const [open, setOpen] = useState(/** @type {any} */ (null));
  const held = paused || scrolled;
  const tail = useTail(filter, held);
  const contents = hello.value.console_contents;
  const box = useRef(/** @type {HTMLElement | null} */ (null));
  useEffect(() => {
    // Who reads further down keeps what is read.
    const element = box.current;
    const look = (/** @type {any} */ event) => { if (event.target.classList?.contains("table")) setScrolled(event.target.scrollTop > 20); };
    element?.addEventListener("scroll", look, true);
    return () => element?.removeEventListener("scroll", look, true);
  }, []);
  const resume = () => {
    setPaused(false);
    setScrolled(false);
    box.current?.querySelector(".table")?.scrollTo(0, 0);
  };

  return html`<${Page} title=${t("nav.traffic")} about=${t(contents ? "traffic.about" : "traffic.aboutHidden")} actions=${html`
      <${Button} icon="trash" onClick=${() => { tail.clear(); setOpen(null); }}>${t("traffic.clear")}<//>
      <${Button} kind="primary" icon=${held ? "play" : "pause"} onClick=${held ? resume : () => setPaused(true)}>${t(held ? "traffic.resume" : "traffic.pause")}<//>`}>
    ${tail.error && html`<${Failed} error=${tail.error} />`}
    ${!contents && state.value === "open" && html`<${Callout}>${t("traffic.hidden")}<//>`}
    <div ref=${box} class=${`traffic ${open ? "split" : ""}`}>
      <${Card} flush>
        <${Filter} filter=${filter} />
        <p class="traffic-state" role="status"><span class=${`traffic-light ${held ? "held" : state.value === "open" ? "on" : ""}`} aria-hidden="true"></span>
          ${held ? t("traffic.held", { n: tail.waiting }) : t(state.value === "open" ? "traffic.live" : "traffic.connecting")}
          <span class="soft">${t("traffic.shown", { n: tail.shown.length })}</span>
          ${tail.lost > 0 && html`<${Badge} kind="warn" title=${t("traffic.lostAbout")}>${t("traffic.lost", { n: tail.lost })}<//>`}</p>
        <${List} rows=${tail.shown} open=${open} setOpen=${setOpen} />
      <//>
      ${open && html`<${Detail} item=${open} onClose=${() => setOpen(null)} />`}
    </div>
  <//>`;
}

/** @param {{filter: Record<string, any>}} props */
function Filter({ filter }) {
  const [key, setKey] = useState(0);
  const userField = useSuggestions("users");
  const deviceField = useSuggestions("devices");
  const name = { user: filter.user_id ? users.of(filter.user_id)?.username ?? `#${filter.user_id}` : "", device: filter.device_id ? `#${filter.device_id}` : "" };
  useEffect(() => setKey((before) => before + 1), [filter.user_id, filter.device_id, filter.type, name.user]);
  return html`<div class="traffic-filter">
    <${Segmented} label=${t("traffic.direction")} value=${filter.direction ?? ""} onChange=${(/** @type {string} */ direction) => setQuery({ ...filter, direction })}
      options=${["", "in", "out"].map((value) => ({ value, label: t(`traffic.direction.${value || "both"}`) }))} />
    <${Form} key=${key} inline submit=${t("traffic.filter")} kind="quiet" label=${t("traffic.filter")} onSubmit=${async (/** @type {any} */ { user, device, type }) => {
      const [who, what] = [user && await findUser(user), device && await findDevice(device)];
      setQuery({ direction: filter.direction, type, user_id: who?.id, device_id: what?.id });
    }}>
      <${Field} label=${t("traffic.user")} name="user" value=${name.user} input=${userField.input} />${userField.list}
      <${Field} label=${t("traffic.device")} name="device" value=${name.device} input=${deviceField.input} />${deviceField.list}
      <${Field} label=${t("traffic.type")} name="type" value=${filter.type ?? ""} input=${{ maxlength: 64, autocomplete: "off", spellcheck: false }} />
    <//>
    ${Object.keys(filter).length > 0 && html`<${Button} kind="plain" small icon="close" onClick=${() => { setQuery({}); }}>${t("traffic.unfilter")}<//>`}
  </div>`;
}

/** @param {{item: any}} props */
const Direction = ({ item }) => html`<span class=${`traffic-direction ${item.direction}`} title=${t(`traffic.direction.${item.direction}`)}><${Icon} name=${item.direction === "in" ? "in" : "up"} /><span class="hidden">${t(`traffic.direction.${item.direction}`)}</span></span>`;

/** @param {{rows: any[], open: any, setOpen: (item: any) => void}} props */
function List({ rows, open, setOpen }) {
  return html`<${Table} label=${t("nav.traffic")} rows=${rows} rowKey="n" class="traffic-table" rowClass=${(/** @type {any} */ row) => (row.n === open?.n ? "selected" : "")}
    empty=${html`<${Empty} icon="traffic" title=${t("traffic.none")} text=${t("traffic.noneText")} action=${html`<a href=${link("playground")}>${t("traffic.tryPlayground")}</a>`} />`} columns=${[
      { key: "at", title: t("traffic.time"), mono: true, cell: (/** @type {any} */ row) => clock(row.at, true) },
      { key: "direction", title: "", cell: (/** @type {any} */ row) => html`<${Direction} item=${row} />` },
      { key: "type", title: t("traffic.type"), cell: (/** @type {any} */ row) => html`<button type="button" class="adm-cell strong" aria-pressed=${row.n === open?.n ? "true" : "false"} title=${t("traffic.open")} onClick=${() => setOpen(row.n === open?.n ? null : row)}><bdi>${row.type}</bdi></button><${Narrow} parts=${[row.user_id ? html`<${UserLink} id=${row.user_id} />` : "", bytes(row.bytes)]} />` },
      { key: "user_id", title: t("traffic.user"), wide: true, cell: (/** @type {any} */ row) => (row.user_id ? html`<${UserLink} id=${row.user_id} />` : html`<span class="soft">${row.kind === "push" && !row.device_id ? t("traffic.everyone") : "–"}</span>`) },
      { key: "device_id", title: t("traffic.device"), wide: true, cell: (/** @type {any} */ row) => (row.device_id ? html`<${DeviceLink} id=${row.device_id} />` : html`<span class="soft">–</span>`) },
      { key: "bytes", title: t("traffic.bytes"), number: true, wide: true, cell: (/** @type {any} */ row) => bytes(row.bytes) },
      { key: "message", title: t("traffic.content"), wide: true, grow: true, cell: (/** @type {any} */ row) => (row.message === undefined ? html`<span class="soft">${row.id !== undefined ? `#${row.id}` : ""}</span>` : html`<code class="traffic-brief">${brief(row.message, 200)}</code>`) },
    ]} />`;
}

/** @param {{item: any, onClose: () => void}} props */
function Detail({ item, onClose }) {
  const person = (/** @type {number | undefined} */ id) => (id ? html`<${UserLink} id=${id} />` : "–");
  return html`<${Card} class="traffic-detail" title=${item.type} actions=${html`<${Button} kind="plain" icon="close" label=${t("ui.close")} onClick=${onClose} />`}>
    <${Facts} items=${[
        [t("traffic.time"), clock(item.at, true)],
        [t("traffic.direction"), t(`traffic.direction.${item.direction}`)],
        [t("traffic.kind"), t(`traffic.kind.${item.kind}`)],
        [t("traffic.user"), person(item.user_id)],
        [t("traffic.device"), item.device_id ? html`<${DeviceLink} id=${item.device_id} />` : "–"],
        item.sender_id && [t("traffic.sender"), person(item.sender_id)],
        item.connection_id && [t("traffic.connection"), number(item.connection_id)],
        item.delivery && [t("traffic.delivery"), t(`messages.delivery.${item.delivery}`)],
        item.id !== undefined && [t("traffic.id"), html`<a href=${link("messages", item.id)}>#${item.id}</a>`],
        [t("traffic.bytes"), bytes(item.bytes)],
      ]} />
    ${item.message === undefined ? html`<p class="soft">${t("traffic.hidden")}</p>` : html`<${Pretty} value=${item.message} label=${t("traffic.content")} />`}
  <//>`;
}
