// The texts of the page in the language of its reader, and numbers, sizes and times as that language writes them.
import { signal } from "../vendor/preact.js";

/** @typedef {"en" | "zh"} Language */
/** @typedef {string | {one: string, other: string}} Text A text with `{names}` in it; two where it depends on `n`. */
/** @typedef {Record<string, Text>} Texts Keys have the name of their view in front: `users.create`. */

/** The languages, each named in itself. @type {Record<Language, string>} */
export const LANGUAGES = { en: "English", zh: "简体中文" };
const STORED = "qy-lty.language";
const TAG = { en: "en", zh: "zh-CN" };

/** @type {Texts} */
let texts = {};

/** The language in use; everything that shows a text reads it. @type {import("@preact/signals").Signal<Language>} */
export const language = signal(/** @type {Language} */ ("en"));

/** @returns {Language} the stored language, or that of the browser */
function preferred() {
  const stored = remembered(STORED);
  if (stored === "en" || stored === "zh") return stored;
  return (navigator.languages ?? [navigator.language]).map((tag) => tag.slice(0, 2).toLowerCase()).find((tag) => tag === "zh" || tag === "en") === "zh"
    ? "zh" : "en";
}

/**
 * Reads what the browser keeps for the page; storage may be forbidden.
 * @param {string} key
 * @returns {string | null}
 */
export function remembered(key) {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
}

/**
 * Keeps a choice in the browser, where that is allowed; `null` forgets it.
 * @param {string} key
 * @param {string | null} value
 */
export function remember(key, value) {
  try {
    if (value === null) localStorage.removeItem(key);
    else localStorage.setItem(key, value);
  } catch { /* the choice lasts as long as the page */ }
}

/**
 * Loads the texts of a language and shows them; without an argument, of the preferred one.
 * @param {Language} [wanted]
 * @returns {Promise<void>}
 */
export async function setLanguage(wanted) {
  const next = wanted ?? preferred();
  const { default: loaded } = await (next === "zh" ? import("../lang/zh.js") : import("../lang/en.js"));
  texts = loaded;
  if (wanted) remember(STORED, wanted);
  document.documentElement.lang = TAG[next];
  formats.clear();
  language.value = next;
}

/**
 * Returns a text; `{name}` in it stands for the parameter of that name. With a parameter `n`, the form for that number.
 * @param {string} key
 * @param {Record<string, string | number>} [values]
 * @returns {string}
 */
export function t(key, values) {
  const tag = TAG[language.value];
  let text = texts[key] ?? key;
  if (typeof text === "object") text = new Intl.PluralRules(tag).select(Number(values?.n)) === "one" ? text.one : text.other;
  if (!values) return text;
  return text.replace(/\{(\w+)\}/g, (whole, name) => {
    const value = values[name];
    return value === undefined ? whole : typeof value === "number" ? number(value) : value;
  });
}

/**
 * Returns whether there is such a text.
 * @param {string} key
 */
export const has = (key) => key in texts;

/** @type {Map<string, any>} */
const formats = new Map();

/**
 * @template T
 * @param {string} name
 * @param {(tag: string) => T} make
 * @returns {T}
 */
function format(name, make) {
  const tag = TAG[language.value];
  const key = `${tag} ${name}`;
  if (!formats.has(key)) formats.set(key, make(tag));
  return formats.get(key);
}

/**
 * A number with at most `digits` places behind the point.
 * @param {number | null | undefined} value
 * @param {number} [digits]
 */
export function number(value, digits = 1) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  return format(`number ${digits}`, (tag) => new Intl.NumberFormat(tag, { maximumFractionDigits: digits })).format(value);
}

/**
 * A size: `12.4 MB`.
 * @param {number | null | undefined} value in bytes
 */
export function bytes(value) {
  if (value === null || value === undefined) return "–";
  const units = ["B", "KB", "MB", "GB", "TB"];
  const power = value < 1000 ? 0 : Math.min(units.length - 1, Math.floor(Math.log10(value) / 3));
  const scaled = value / 1000 ** power;
  return `${number(scaled, power === 0 || scaled >= 100 ? 0 : 1)} ${units[power]}`;
}

/**
 * A duration in its two largest units: `3 d 4 h`.
 * @param {number | null | undefined} seconds
 */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 1) return t("ui.unit.ms", { n: Math.round(seconds * 1000) });
  /** @type {[string, number][]} */
  const units = [["d", 86400], ["h", 3600], ["m", 60], ["s", 1]];
  const first = units.findIndex(([, length]) => seconds >= length);
  let left = Math.floor(seconds);
  return units.slice(first, first + 2).flatMap(([unit, length]) => {
    const n = Math.floor(left / length);
    left -= n * length;
    return n ? [t(`ui.unit.${unit}`, { n })] : [];
  }).join(" ");
}

/**
 * A date and time of the reader's place.
 * @param {string | number | null | undefined} at ISO 8601, or milliseconds
 * @param {boolean} [seconds]
 */
export function dateTime(at, seconds = true) {
  if (at === null || at === undefined) return "–";
  return format(`date ${seconds}`, (tag) => new Intl.DateTimeFormat(tag, { dateStyle: "medium", timeStyle: seconds ? "medium" : "short" })).format(new Date(at));
}

/**
 * The time of day, with milliseconds where asked to.
 * @param {string | number} at
 * @param {boolean} [fine]
 */
export function clock(at, fine = false) {
  const options = /** @type {Intl.DateTimeFormatOptions} */ ({ hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23", ...(fine && { fractionalSecondDigits: 3 }) });
  return format(`clock ${fine}`, (tag) => new Intl.DateTimeFormat(tag, options)).format(new Date(at));
}

/**
 * How long ago: `3 min. ago`.
 * @param {string | number | null | undefined} at
 * @param {number} [now] in milliseconds
 */
export function ago(at, now = Date.now()) {
  if (at === null || at === undefined) return "–";
  const seconds = (new Date(at).getTime() - now) / 1000;
  if (Math.abs(seconds) < 5) return t("ui.justNow");
  const relative = format("ago", (tag) => new Intl.RelativeTimeFormat(tag, { numeric: "auto", style: "short" }));
  /** @type {[Intl.RelativeTimeFormatUnit, number][]} */
  const units = [["year", 31536000], ["month", 2592000], ["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];
  const [unit, length] = units.find(([, size]) => Math.abs(seconds) >= size) ?? units[5];
  return relative.format(Math.trunc(seconds / length), unit);
}
