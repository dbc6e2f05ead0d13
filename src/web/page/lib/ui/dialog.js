// Dialogs: the browser's own, which keeps the focus inside and gives it back.
import { html, signal, useId, useLayoutEffect, useRef } from "../../vendor/preact.js";
import { me, request } from "../api.js";
import { t } from "../i18n.js";
import { Field, Form } from "./action.js";
import { Icon } from "./icon.js";

/** @typedef {{title: string, text?: any, action: string, kind?: "danger" | "primary", typed?: string}} Question `typed` must be typed in before. */

/**
 * A dialog; shown for as long as it is rendered.
 * @param {{title: string, onClose: () => void, children?: any, wide?: boolean}} props
 */
export function Dialog({ title, onClose, children, wide }) {
  const ref = useRef(/** @type {HTMLDialogElement | null} */ (null));
  const leaving = useRef(false);
  const id = useId();
  useLayoutEffect(() => {
    const dialog = ref.current;
    if (!dialog) return undefined;
    dialog.showModal();
    return () => {
      leaving.current = true;
      dialog.close();
    };
  }, []);
  return html`<dialog ref=${ref} class=${wide ? "wide" : ""} aria-labelledby=${id}
    onCancel=${(/** @type {any} */ event) => { if (event.target === ref.current) { event.preventDefault(); onClose(); } }}
    onClose=${() => { if (!leaving.current) onClose(); /* a second Escape closes it whatever we say */ }}
    onMouseDown=${(/** @type {any} */ event) => { if (event.target === ref.current) onClose(); }}>
    <div class="dialog">
      <header><h2 id=${id}>${title}</h2>
        <button type="button" class="button plain bare" aria-label=${t("ui.close")} onClick=${onClose}><${Icon} name="close" /></button></header>
      ${children}
    </div>
  </dialog>`;
}

/** @typedef {(close: (value?: any) => void) => any} Content */
/** @type {import("@preact/signals").Signal<{id: number, content: Content, done: (value: any) => void}[]>} */
const open = signal(/** @type {any[]} */ ([]));
let ids = 0;

/**
 * Shows a dialog from anywhere, and resolves to what it is closed with.
 * @param {Content} content returns a `Dialog`
 * @returns {Promise<any>}
 */
export function show(content) {
  return new Promise((done) => {
    ids += 1;
    open.value = [...open.value, { id: ids, content, done }];
  });
}

/** The place of the dialogs of `show`; once in the page. */
export function DialogHost() {
  return open.value.map(({ id, content, done }) => html`<div key=${id}>${content((value) => {
    open.value = open.value.filter((entry) => entry.id !== id);
    done(value);
  })}</div>`);
}

/**
 * Asks before something that can't be undone.
 * @param {Question} question
 * @returns {Promise<boolean>}
 */
export async function confirm({ title, text, action, kind = "danger", typed }) {
  const sure = await show((close) => html`<${Dialog} title=${title} onClose=${() => close(false)}>
    <${Form} submit=${action} kind=${kind} onCancel=${() => close(false)} onSubmit=${() => close(true)}>
      ${text && html`<p>${text}</p>`}
      ${typed !== undefined && html`<${Field} label=${t("ui.typeToConfirm", { text: typed })} name="typed" required focus
        input=${{ autocomplete: "off", spellcheck: false, pattern: typed.replace(/[.*+?^${}()|[\]\\/]/g, "\\$&") }} />`}
    <//>
  <//>`);
  return sure === true;
}

/** @type {Promise<boolean> | null} */
let asking = null;

/** Asks for the password, for what a session that is not fresh may not do without it. One dialog for all that need it. */
export function elevate() {
  asking ??= show((close) => html`<${Dialog} title=${t("ui.elevate.title")} onClose=${() => close(false)}>
    <${Form} submit=${t("ui.elevate.action")} onCancel=${() => close(false)} onSubmit=${async (/** @type {any} */ { password }) => {
      await request("POST", "/api/auth/elevate", { body: { password } });
      close(true);
    }}>
      <p>${t("ui.elevate.text")}</p>
      <input type="hidden" autocomplete="username" value=${me.value?.username ?? ""} />
      <${Field} label=${t("ui.password")} name="password" type="password" required focus input=${{ autocomplete: "current-password", maxlength: 128 }} />
    <//>
  <//>`).then((value) => value === true).finally(() => { asking = null; });
  return asking;
}
