// Whether the page is in view: what nobody sees is not kept up to date.
import { signal } from "../../lib/ui.js";

/** Whether the tab is shown. */
export const visible = signal(!document.hidden);
document.addEventListener("visibilitychange", () => { visible.value = !document.hidden; });

/**
 * Returns a topic while the page is in view, for `useLive`.
 * @template T
 * @param {T} topic
 * @returns {T | null}
 */
export const whileVisible = (topic) => (visible.value ? topic : null);
