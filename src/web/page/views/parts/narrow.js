// On narrow screens: what the columns that are left out there would say.
import { html, signal } from "../../lib/ui.js";

// As in style.css, where columns are left out.
const query = matchMedia("(max-width: 720px)");
const narrow = signal(query.matches);
query.addEventListener("change", () => { narrow.value = query.matches; });

/**
 * A second line of a cell, where there is no room for columns of their own.
 * @param {{parts: any[]}} props empty ones are left out
 */
export function Narrow({ parts }) {
  if (!narrow.value) return null;
  return html`<small class="adm-narrow">${parts.filter(Boolean).map((part, n) => html`<span key=${n}>${part}</span>`)}</small>`;
}
