// The page: who is signed in, where the reader is, and the frame around the views.
import { computed, effect, html, render, signal, useEffect, useRef, useState } from "./vendor/preact.js";
import { Unreachable, errorText, mayBeSignedIn, me, onElevation, reachable, signInByLink, signOut, whoAmI } from "./lib/api.js";
import { LANGUAGES, language, setLanguage, t } from "./lib/i18n.js";
import * as live from "./lib/live.js";
import * as router from "./lib/router.js";
import * as themes from "./lib/theme.js";
import { Button, DialogHost, Empty, Failed, Icon, Loading, Note, elevate } from "./lib/ui.js";
import SignIn from "./views/signin.js";

const { route, link } = router;

/**
 * @typedef {object} View
 * @property {() => Promise<{default: any}>} load
 * @property {boolean} [admin] for administrators only
 * @property {boolean} [open] for everybody, also without a session
 */

/** The views by their places. @type {Record<string, View>} */
const VIEWS = {
  overview: { load: () => import("./views/overview.js"), admin: true },
  connections: { load: () => import("./views/connections.js"), admin: true },
  traffic: { load: () => import("./views/traffic.js"), admin: true },
  users: { load: () => import("./views/users.js"), admin: true },
  devices: { load: () => import("./views/devices.js"), admin: true },
  queues: { load: () => import("./views/queues.js"), admin: true },
  messages: { load: () => import("./views/messages.js"), admin: true },
  audit: { load: () => import("./views/audit.js"), admin: true },
  settings: { load: () => import("./views/settings.js"), admin: true },
  playground: { load: () => import("./views/playground.js") },
  docs: { load: () => import("./views/docs.js"), open: true },
  mine: { load: () => import("./views/mine.js") },
  inbox: { load: () => import("./views/inbox.js") },
  clients: { load: () => import("./views/clients.js") },
  account: { load: () => import("./views/account.js") },
};

/** The navigation: groups of places. @type {Record<"admin" | "user", [string, string[]][]>} */
const NAVIGATION = {
  admin: [
    ["watch", ["overview", "connections", "traffic", "audit"]],
    ["manage", ["users", "devices", "queues", "messages", "settings"]],
    ["build", ["playground", "docs"]],
    ["own", ["account"]],
  ],
  user: [
    ["own", ["mine", "inbox", "clients", "account"]],
    ["build", ["playground", "docs"]],
  ],
};

/** Which icon a place has, where it is not of the same name. @type {Record<string, string>} */
const ICONS = { mine: "devices", inbox: "messages" };

/** What a one-time link came to, for the sign-in view. */
const linkError = signal("");
const home = computed(() => (me.value?.role === "admin" ? "overview" : "mine"));
const place = computed(() => route.value.name || home.value);

/** A view, once its module is there. @param {{view: View, name: string}} props */
function Loader({ view, name }) {
  const [state, setState] = useState(/** @type {{name: string, component?: any, error?: unknown}} */ ({ name }));
  const [turn, setTurn] = useState(0);
  useEffect(() => {
    let wanted = true;
    view.load().then(
      (module) => { if (wanted) setState({ name, component: module.default }); },
      (error) => { if (wanted) setState({ name, error: navigator.onLine && reachable.value ? error : new Unreachable(t("ui.failed")) }); },
    );
    return () => { wanted = false; };
  }, [name, turn]);
  if (state.name !== name) return html`<${Loading} />`;
  if (state.error) return html`<${Failed} error=${state.error} retry=${() => { setState({ name }); setTurn(turn + 1); }} />`;
  return state.component ? html`<${state.component} params=${route.value.params} query=${route.value.query} />` : html`<${Loading} />`;
}

/** What the reader asked for; after a step within the page, its heading has the focus, so that it is read out. */
function Content() {
  const name = place.value;
  const view = VIEWS[name];
  const main = useRef(/** @type {HTMLElement | null} */ (null));
  const first = useRef(true);
  useEffect(() => {
    if (first.current) {
      first.current = false;
      return;
    }
    scrollTo(0, 0);
    main.current?.focus({ preventScroll: true });
  }, [name, route.value.params.join("/")]);
  const allowed = view && (view.open || (me.value && (!view.admin || me.value.role === "admin")));
  return html`<main id="content" tabindex="-1" ref=${main}>
    ${allowed ? html`<${Loader} view=${view} name=${name} key=${name} />` : html`<${Empty} title=${t("ui.notFound")} action=${html`<a href=${link(home.value)}>${t(`nav.${home.value}`)}</a>`} />`}
  </main>`;
}

/** Language and theme. */
export function Preferences() {
  const other = language.value === "zh" ? "en" : "zh";
  /** @type {themes.Theme[]} */
  const order = ["system", "light", "dark"];
  const next = order[(order.indexOf(themes.theme.value) + 1) % order.length];
  return html`<div class="preferences">
    <button type="button" class="button plain small" lang=${other === "zh" ? "zh-CN" : "en"} onClick=${() => setLanguage(other)}><${Icon} name="language" />${LANGUAGES[other]}</button>
    <button type="button" class="button plain small" aria-label=${`${t("ui.theme")}: ${t(`ui.theme.${themes.theme.value}`)}`} onClick=${() => themes.setTheme(next)}>
      <${Icon} name=${themes.theme.value === "dark" ? "moon" : "sun"} />${t(`ui.theme.${themes.theme.value}`)}</button>
  </div>`;
}

/** @param {{open: boolean, onPick: () => void}} props */
function Navigation({ open, onPick }) {
  const groups = NAVIGATION[me.value?.role ?? "user"];
  return html`<nav id="navigation" class=${open ? "open" : ""} aria-label=${t("ui.menu")}>
    ${groups.map(([group, names]) => html`<div class="nav-group" key=${group}><p class="nav-title" id=${`nav-${group}`}>${t(`nav.group.${group}`)}</p>
      <ul aria-labelledby=${`nav-${group}`}>${names.map((name) => html`<li key=${name}>
        <a href=${link(name)} aria-current=${name === place.value ? "page" : undefined} onClick=${onPick}><${Icon} name=${ICONS[name] ?? name} />${t(`nav.${name}`)}</a></li>`)}</ul></div>`)}
    <div class="nav-foot">
      <p class="who"><${Icon} name="account" /><span><bdi>${me.value?.username}</bdi><small>${t(`ui.role.${me.value?.role ?? "user"}`)}</small></span></p>
      <${Preferences} />
      <${Button} kind="plain" small icon="out" onClick=${signOut}>${t("ui.signOut")}<//>
      ${live.hello.value.version && html`<p class="version">qy-lty ${live.hello.value.version}</p>`}
    </div>
  </nav>`;
}

/** What the reader must know about the server, wherever in the page. */
function Banner() {
  if (!reachable.value) return html`<div class="banner bad" role="alert"><${Icon} name="warning" />${t("ui.unreachable.retrying")}</div>`;
  if (me.value && live.state.value === "refused") return html`<div class="banner" role="status">${t("ui.live.refused")}</div>`;
  return null;
}

function App() {
  const [menu, setMenu] = useState(false);
  void language.value; // everything is shown anew in another language
  const user = me.value;
  useEffect(() => { setMenu(false); }, [route.value]);
  useEffect(() => {
    if (!menu) return undefined;
    const close = (/** @type {KeyboardEvent} */ event) => { if (event.key === "Escape") setMenu(false); };
    addEventListener("keydown", close);
    return () => removeEventListener("keydown", close);
  }, [menu]);
  if (user === undefined) return html`<${Banner} /><main class="away">${reachable.value ? html`<${Loading} />` : html`<${Empty} title="qy-lty" text=${t("ui.offline.text")} />`}</main>`;
  if (!user && !VIEWS[place.value]?.open) {
    return html`<${Banner} /><${SignIn} note=${html`<${Note} note=${linkError.value ? { kind: "bad", text: linkError.value } : null} />`} preferences=${html`<${Preferences} />`} /><${DialogHost} />`;
  }
  return html`
    <a class="skip" href="#content" onClick=${(/** @type {Event} */ event) => { event.preventDefault(); document.getElementById("content")?.focus(); }}>${t("ui.skip")}</a>
    <${Banner} />
    <div class=${`frame ${user ? "" : "guest"}`}>
      <header class="top">
        ${user && html`<button type="button" class="button plain bare menu" aria-expanded=${menu ? "true" : "false"} aria-controls="navigation" aria-label=${t("ui.menu")}
          onClick=${() => setMenu(!menu)}><${Icon} name=${menu ? "close" : "menu"} /></button>`}
        <a class="brand" href=${link(user ? home.value : "")}><img src=${new URL("icon.svg", import.meta.url).href} alt="" width="22" height="22" />qy-lty</a>
        ${!user && html`<${Preferences} />`}
      </header>
      ${user && html`<${Navigation} open=${menu} onPick=${() => setMenu(false)} />`}
      <${Content} />
    </div>
    <${DialogHost} />`;
}

/** Signs in with the code of a one-time link, which is in the fragment: browsers send that to nobody. It does not stay in the history. */
async function followLink() {
  const code = /^#link=(.+)/.exec(location.hash)?.[1];
  if (!code) return;
  history.replaceState(null, "", location.pathname + location.search);
  try {
    await signInByLink(code);
    linkError.value = "";
  } catch (error) {
    linkError.value = errorText(error);
  }
}

/** Has the page open without a server: the worker keeps its files. Only where the browser allows that: over HTTPS or on this machine. */
async function keepOffline() {
  if (!("serviceWorker" in navigator)) return;
  try {
    await navigator.serviceWorker.register(new URL("../worker.js", import.meta.url));
    const { active } = await navigator.serviceWorker.ready;
    active?.postMessage({ keep: performance.getEntriesByType("resource").map((entry) => entry.name) });
  } catch { /* the page works without it */ }
}

themes.start();
onElevation(elevate);
addEventListener("hashchange", followLink);
await setLanguage();
await followLink();
router.start();
if (!me.value) {
  if (mayBeSignedIn()) await whoAmI();
  else me.value = null;
}
effect(() => { if (me.value) linkError.value = ""; });
// Opened while the server was away: who is signed in is not known until it is back.
effect(() => { if (reachable.value && me.peek() === undefined) whoAmI(); });
live.start();
render(html`<${App} />`, /** @type {HTMLElement} */ (document.getElementById("app")));
keepOffline();
