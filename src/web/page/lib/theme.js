// Light or dark: that of the system unless the reader has chosen.
import { signal } from "../vendor/preact.js";
import { remember, remembered } from "./i18n.js";

/** @typedef {"system" | "light" | "dark"} Theme */

const STORED = "qy-lty.theme";

/** The choice. @type {import("@preact/signals").Signal<Theme>} */
export const theme = signal(/** @type {Theme} */ ("system"));
/** Counts changes of the colours, for what is painted and not styled. */
export const painted = signal(0);

/** @param {Theme} choice */
export function setTheme(choice) {
  theme.value = choice;
  remember(STORED, choice === "system" ? null : choice);
  apply();
}

function apply() {
  const root = document.documentElement;
  if (theme.value === "system") delete root.dataset.theme;
  else root.dataset.theme = theme.value;
  painted.value += 1;
}

/** Called once, by the page. */
export function start() {
  const stored = remembered(STORED);
  theme.value = stored === "light" || stored === "dark" ? stored : "system";
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", apply);
  apply();
}

/**
 * Returns a colour of the style sheet as it is now; custom properties alone are not resolved by the browser.
 * @param {string} name such as `--main`
 */
export function colour(name) {
  const probe = document.createElement("i");
  probe.style.color = `var(${name})`;
  probe.hidden = true;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}
