// What people do: buttons, forms and their fields. Each says beside itself how it went.
import { createContext, html, useContext, useEffect, useId, useRef, useState } from "../../vendor/preact.js";
import { ApiError, errorText } from "../api.js";
import { t } from "../i18n.js";
import { confirm } from "./dialog.js";
import { Icon } from "./icon.js";

/** @typedef {{kind: "ok" | "bad", text: string} | null} NoteState */

const OK_MS = 6000;

/**
 * The outcome of an action, where it was made. Read out by screen readers.
 * @param {{note: NoteState}} props
 */
export function Note({ note }) {
  if (!note?.text) return null;
  return html`<p class=${`note ${note.kind}`} role=${note.kind === "bad" ? "alert" : "status"}>${note.text}</p>`;
}

/**
 * Runs an action once at a time and keeps its outcome. A text that it resolves to is shown for some seconds, an error until the next try.
 * @param {(...args: any[]) => any} work
 * @returns {{run: (...args: any[]) => Promise<boolean>, busy: boolean, note: NoteState, error: unknown, clear: () => void}}
 */
export function useAction(work) {
  const [busy, setBusy] = useState(false);
  const [note, setNote] = useState(/** @type {NoteState} */ (null));
  const [error, setError] = useState(/** @type {unknown} */ (null));
  const running = useRef(false);
  const timer = useRef(/** @type {any} */ (0));
  useEffect(() => () => clearTimeout(timer.current), []);
  const run = async (/** @type {any[]} */ ...args) => {
    if (running.current) return false;
    running.current = true;
    setBusy(true);
    setNote(null);
    setError(null);
    clearTimeout(timer.current);
    try {
      const said = await work(...args);
      if (typeof said === "string" && said) {
        setNote({ kind: "ok", text: said });
        timer.current = setTimeout(() => setNote(null), OK_MS);
      }
      return true;
    } catch (problem) {
      setError(problem);
      setNote({ kind: "bad", text: errorText(problem) });
      return false;
    } finally {
      running.current = false;
      setBusy(false);
    }
  };
  return { run, busy, note, error, clear: () => setNote(null) };
}

/**
 * A button. `onClick` may return a promise: meanwhile the button waits, and a text that it resolves to, or an error, appears beside it.
 * @param {object} props
 * @param {(event: Event) => any} [props.onClick]
 * @param {"primary" | "quiet" | "danger" | "plain"} [props.kind] `quiet` where none is given
 * @param {any} [props.children]
 * @param {string} [props.icon]
 * @param {string} [props.label] what a button without a text is called
 * @param {boolean} [props.small]
 * @param {boolean} [props.disabled]
 * @param {import("./dialog.js").Question} [props.confirm] asked before
 * @param {boolean} [props.pressed] of a button that switches something
 * @param {string} [props.class]
 */
export function Button({ onClick, kind = "quiet", children, icon, label, small, disabled, confirm: question, pressed, class: extra = "" }) {
  const { run, busy, note } = useAction(async (event) => {
    if (question && !(await confirm(question))) return undefined;
    return onClick?.(event);
  });
  return html`<span class="act">
    <button type="button" class=${`button ${kind} ${small ? "small" : ""} ${children ? "" : "bare"} ${extra}`} aria-label=${label} title=${children ? undefined : label}
      aria-pressed=${pressed} aria-busy=${busy ? "true" : undefined} disabled=${disabled} onClick=${run}>
      ${icon && html`<${Icon} name=${icon} />`}${children}
    </button><${Note} note=${note} />
  </span>`;
}

/**
 * A link that looks like a button.
 * @param {{href: string, kind?: string, icon?: string, small?: boolean, children?: any}} props
 */
export function ButtonLink({ href, kind = "quiet", icon, small, children }) {
  return html`<a class=${`button ${kind} ${small ? "small" : ""}`} href=${href}>${icon && html`<${Icon} name=${icon} />`}${children}</a>`;
}

/** @type {any} */
const FormState = createContext({ fieldError: null });

/** @typedef {Record<string, any>} Values Texts without blanks around them, passwords as they are, booleans of tick boxes, numbers or undefined. */

/**
 * @param {HTMLFormElement} form
 * @returns {Values}
 */
export function valuesOf(form) {
  /** @type {Values} */
  const values = {};
  for (const input of /** @type {any} */ (form.elements)) {
    if (!input.name || input.disabled) continue;
    if (input.type === "checkbox") values[input.name] = input.checked;
    else if (input.type === "radio") { if (input.checked) values[input.name] = input.value; }
    else if (input.type === "number") values[input.name] = input.value === "" ? undefined : Number(input.value);
    else values[input.name] = input.type === "password" || input.dataset.raw ? input.value : input.value.trim();
  }
  return values;
}

/**
 * A form. An error that names one of its fields is shown at that field, any other above the button.
 * @param {object} props
 * @param {(values: Values, form: HTMLFormElement) => any} props.onSubmit may resolve to a text, which is shown
 * @param {string} props.submit the text of its button
 * @param {any} [props.children] the fields
 * @param {"primary" | "danger"} [props.kind]
 * @param {boolean} [props.reset] whether it is emptied when it went well
 * @param {() => void} [props.onCancel] adds a button for that
 * @param {string} [props.label] what screen readers call it
 * @param {boolean} [props.inline] fields and button in one line, where there is room
 * @param {(code: string, error: unknown) => string | undefined} [props.explain] the text of an error, where it has another meaning here
 */
export function Form({ onSubmit, submit, children, kind = "primary", reset, onCancel, label, inline, explain }) {
  const ref = useRef(/** @type {HTMLFormElement | null} */ (null));
  const { run, busy, note, error } = useAction(async (/** @type {HTMLFormElement} */ form) => {
    const said = await onSubmit(valuesOf(form), form);
    if (reset) form.reset();
    return said;
  });
  const own = error instanceof ApiError ? explain?.(error.code, error) : undefined;
  const named = error instanceof ApiError && error.code === "invalid" ? /^([a-z_]+)[\s:[.]/.exec(error.message)?.[1] : undefined;
  const field = named && ref.current?.elements.namedItem(named) instanceof HTMLElement ? named : undefined;
  useEffect(() => {
    if (field) /** @type {HTMLElement} */ (ref.current?.elements.namedItem(field)).focus();
  }, [error]);
  const state = { field, text: field ? errorText(error) : null };
  const shown = field ? null : own && note?.kind === "bad" ? { kind: "bad", text: own } : note;
  return html`<form ref=${ref} class=${`form ${inline ? "inline" : ""}`} aria-label=${label}
    onSubmit=${(/** @type {any} */ event) => { event.preventDefault(); run(event.currentTarget); }}>
    <${FormState.Provider} value=${state}>${children}<//>
    ${!inline && html`<${Note} note=${shown} />`}
    <div class="buttons">
      <button class=${`button ${kind}`} aria-busy=${busy ? "true" : undefined}>${submit}</button>
      ${onCancel && html`<button type="button" class="button quiet" onClick=${onCancel}>${t("ui.cancel")}</button>`}
    </div>
    ${inline && html`<${Note} note=${shown} />`}
  </form>`;
}

/**
 * A field of a form.
 * @param {object} props
 * @param {string} props.label
 * @param {string} props.name
 * @param {"text" | "password" | "number" | "select" | "textarea" | "checkbox" | "search"} [props.type]
 * @param {any} [props.value] what it holds at first
 * @param {string} [props.hint]
 * @param {{value: string, label: string}[]} [props.options] of a `select`
 * @param {boolean} [props.required]
 * @param {boolean} [props.raw] blanks around the text are kept
 * @param {boolean} [props.mono]
 * @param {boolean} [props.focus] has the focus at first
 * @param {number} [props.rows] of a `textarea`
 * @param {(event: any) => void} [props.onInput]
 * @param {(event: any) => void} [props.onChange]
 * @param {Record<string, any>} [props.input] further attributes: `maxlength`, `autocomplete`, `placeholder`, `list`
 */
export function Field({ label, name, type = "text", value, hint, options, required, raw, mono, focus, rows = 4, onInput, onChange, input = {} }) {
  const id = useId();
  const ref = useRef(/** @type {any} */ (null));
  const state = useContext(FormState);
  const bad = state.field === name ? state.text : null;
  useEffect(() => { if (focus) ref.current?.focus(); }, []);
  const about = [hint && `${id}h`, bad && `${id}e`].filter(Boolean).join(" ") || undefined;
  const shared = {
    id, name, ref, required, onInput, onChange, "aria-describedby": about, "aria-invalid": bad ? "true" : undefined, "data-raw": raw ? "1" : undefined,
    class: mono ? "mono" : undefined, ...input,
  };
  const notes = html`${hint && html`<small id=${`${id}h`}>${hint}</small>`}${bad && html`<small class="bad" id=${`${id}e`} role="alert">${bad}</small>`}`;
  if (type === "checkbox") {
    return html`<div class="field tick"><input ...${shared} type="checkbox" defaultChecked=${!!value} /><label for=${id}>${label}</label>${notes}</div>`;
  }
  const control = type === "select"
    ? html`<select ...${shared}>${options?.map((option) => html`<option value=${option.value} selected=${option.value === value}>${option.label}</option>`)}</select>`
    : type === "textarea" ? html`<textarea ...${shared} rows=${rows} defaultValue=${value ?? ""}></textarea>`
    : html`<input ...${shared} type=${type} defaultValue=${value ?? ""} />`;
  return html`<div class="field"><label for=${id}>${label}</label>${control}${notes}</div>`;
}

/**
 * A field to search or filter with, outside of forms.
 * @param {{label: string, value: string, onInput: (text: string) => void, placeholder?: string, wide?: boolean}} props
 */
export function Search({ label, value, onInput, placeholder, wide }) {
  return html`<label class=${`search ${wide ? "wide" : ""}`}><${Icon} name="search" /><span class="hidden">${label}</span>
    <input type="search" value=${value} placeholder=${placeholder ?? label} spellcheck=${false} autocomplete="off"
      onInput=${(/** @type {any} */ event) => onInput(event.currentTarget.value)} /></label>`;
}

/**
 * A choice outside of forms.
 * @param {{label: string, value: string, options: {value: string, label: string}[], onChange: (value: string) => void, hideLabel?: boolean}} props
 */
export function Select({ label, value, options, onChange, hideLabel }) {
  const id = useId();
  return html`<span class="select"><label class=${hideLabel ? "hidden" : ""} for=${id}>${label}</label>
    <select id=${id} value=${value} onChange=${(/** @type {any} */ event) => onChange(event.currentTarget.value)}>
      ${options.map((option) => html`<option value=${option.value} selected=${option.value === value}>${option.label}</option>`)}
    </select></span>`;
}

/**
 * Some choices beside each other, of which one holds.
 * @param {{label: string, value: string, options: {value: string, label: string}[], onChange: (value: string) => void}} props
 */
export function Segmented({ label, value, options, onChange }) {
  return html`<div class="segmented" role="group" aria-label=${label}>${options.map((option) => html`
    <button type="button" key=${option.value} aria-pressed=${option.value === value ? "true" : "false"} onClick=${() => onChange(option.value)}>${option.label}</button>`)}</div>`;
}
