// Ready programs for a device with its token: to paste and run.
import { html, useState } from "../vendor/preact.js";
import { ROOT } from "./api.js";
import { t } from "./i18n.js";
import { Code } from "./ui/show.js";

/** @typedef {{id: string, label: string, text: string}} Snippet */

/** The address of a device's WebSocket, without a credential. */
export function socketUrl() {
  const where = new URL("ws/device/", ROOT);
  where.protocol = where.protocol.replace("http", "ws");
  return where;
}

/**
 * Returns a program for each of several languages that connects with the token and prints what it receives.
 * @param {string} token
 * @returns {Snippet[]}
 */
export function deviceSnippets(token) {
  const url = `${socketUrl()}?token=${token}`;
  const { hostname, port, protocol, pathname } = socketUrl();
  const secure = protocol === "wss:";
  return [
    { id: "javascript", label: "JavaScript", text: `const socket = new WebSocket("${url}");
socket.onmessage = ({ data }) => console.log(JSON.parse(data));
socket.onclose = ({ code, reason }) => console.log("closed", code, reason);
` },
    { id: "python", label: "Python", text: `# pip install websockets
import json
from websockets.sync.client import connect

with connect("${url}") as socket:
    for frame in socket:
        print(json.loads(frame))
` },
    { id: "arduino", label: "Arduino", text: `// Libraries: WebSockets (Markus Sattler), ArduinoJson
#include <WiFi.h>
#include <WebSocketsClient.h>
#include <ArduinoJson.h>

WebSocketsClient socket;

void onEvent(WStype_t type, uint8_t *payload, size_t length) {
  if (type != WStype_TEXT) return;
  JsonDocument frame;
  if (deserializeJson(frame, payload, length)) return;
  Serial.println(frame["type"].as<const char *>());
}

void setup() {
  Serial.begin(115200);
  WiFi.begin("NETWORK", "PASSWORD");
  while (WiFi.status() != WL_CONNECTED) delay(200);
  socket.${secure ? "beginSSL" : "begin"}("${hostname}", ${port || (secure ? 443 : 80)}, "${pathname}?token=${token}");
  socket.onEvent(onEvent);
  socket.setReconnectInterval(3000);
}

void loop() { socket.loop(); }
` },
    { id: "websocat", label: "websocat", text: `websocat '${url}'
` },
  ];
}

/**
 * Texts of which one is shown, each under a tab.
 * @param {{snippets: Snippet[], label: string}} props
 */
export function SnippetTabs({ snippets, label }) {
  const [id, setId] = useState(snippets[0]?.id);
  const shown = snippets.find((snippet) => snippet.id === id) ?? snippets[0];
  if (!shown) return null;
  const move = (/** @type {KeyboardEvent} */ event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const next = snippets[(snippets.indexOf(shown) + step + snippets.length) % snippets.length];
    setId(next.id);
    const list = /** @type {HTMLElement} */ (event.currentTarget);
    queueMicrotask(() => /** @type {HTMLElement | null} */ (list.querySelector(`[data-tab="${next.id}"]`))?.focus());
  };
  return html`<div><div class="tabs" role="tablist" aria-label=${label} onKeyDown=${move}>${snippets.map((snippet) => html`
    <button type="button" role="tab" key=${snippet.id} data-tab=${snippet.id} aria-selected=${snippet === shown ? "true" : "false"} tabindex=${snippet === shown ? 0 : -1}
      onClick=${() => setId(snippet.id)}>${snippet.label}</button>`)}</div>
    <div role="tabpanel" aria-label=${shown.label}><${Code} text=${shown.text} label=${shown.label} /></div></div>`;
}

/** The programs for a device. @param {{token: string}} props */
export const Snippets = ({ token }) => html`<${SnippetTabs} snippets=${deviceSnippets(token)} label=${t("ui.snippets")} />`;
