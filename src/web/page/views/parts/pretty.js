// JSON for people: indented, and each kind of value in its colour. All of it text.
import { html } from "../../lib/ui.js";

/** Longer texts are shown without colours. */
const MAX_COLOURED = 20_000;
const TOKEN = /("(?:\\.|[^"\\])*")(\s*:)?|\b(?:true|false|null)\b|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;

/**
 * JSON with colours.
 * @param {{value: any, label?: string}} props `value`: of any kind but text of a program, which `Code` shows
 */
export function Pretty({ value, label }) {
  const text = JSON.stringify(value, null, 2) ?? "";
  return html`<pre class="pretty" tabindex="0" aria-label=${label}><code>${text.length > MAX_COLOURED ? text : coloured(text)}</code></pre>`;
}

/**
 * @param {string} text
 * @returns {any[]}
 */
function coloured(text) {
  const parts = [];
  let at = 0;
  for (const match of text.matchAll(TOKEN)) {
    const [token, string, colon] = match;
    if (match.index > at) parts.push(text.slice(at, match.index));
    if (string) parts.push(html`<span class=${colon ? "pretty-key" : "pretty-text"}>${string}</span>`, colon ?? "");
    else parts.push(html`<span class="pretty-value">${token}</span>`);
    at = match.index + token.length;
  }
  parts.push(text.slice(at));
  return parts;
}

/**
 * JSON in one line, cut off where it is long.
 * @param {any} value
 * @param {number} [most] characters
 */
export function brief(value, most = 160) {
  const text = typeof value === "string" ? value : JSON.stringify(value) ?? "";
  return text.length > most ? `${text.slice(0, most)}…` : text;
}
