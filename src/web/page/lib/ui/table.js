// Tables. A long one draws only the rows in view, so that thousands of them stay quick.
import { html, useEffect, useMemo, useRef, useState } from "../../vendor/preact.js";
import { t } from "../i18n.js";
import { Icon } from "./icon.js";

/**
 * @typedef {object} Column
 * @property {string} key
 * @property {string} title
 * @property {(row: any) => any} [cell] what it shows; else `row[key]`
 * @property {((row: any) => string | number | null | undefined) | true} [sort] what it is sorted by; `true`: `row[key]`
 * @property {boolean} [number] aligned to the right
 * @property {boolean} [wide] only where there is room: left out on narrow screens
 * @property {boolean} [actions] of buttons: its title is for screen readers only
 * @property {boolean} [mono]
 * @property {boolean} [grow] takes the room that is left
 */

/** From so many rows on, only those in view are drawn. */
const VIRTUAL_ROWS = 120;
/** The height of a row in such a table, in pixels, as in the style sheet. */
const ROW_HEIGHT = 42;
const SPARE_ROWS = 6;
const compare = new Intl.Collator(undefined, { numeric: true }).compare;

/**
 * @param {object} props
 * @param {string} props.label what screen readers call it
 * @param {Column[]} props.columns
 * @param {any[]} props.rows
 * @param {string | ((row: any) => any)} [props.rowKey] `id` where none is given
 * @param {any} [props.empty] shown where there are no rows
 * @param {[string, "up" | "down"]} [props.sort] how it is sorted at first; else as the rows come
 * @param {(row: any) => string} [props.rowClass]
 * @param {string} [props.class]
 */
export function Table({ label, columns, rows, rowKey = "id", empty, sort: first, rowClass, class: extra = "" }) {
  const [[sortKey, direction], setSort] = useState(/** @type {[string | null, "up" | "down"]} */ (first ?? [null, "up"]));
  const sorted = useMemo(() => order(rows, columns.find((column) => column.key === sortKey), direction), [rows, sortKey, direction]);
  const virtual = sorted.length > VIRTUAL_ROWS;
  const box = useRef(/** @type {HTMLDivElement | null} */ (null));
  const [[from, to], setWindow] = useState([0, 40]);
  const held = useRef({ columns: /** @type {Column[] | null} */ (null), drawn: new Map() });
  useEffect(() => {
    const element = box.current;
    if (!virtual || !element) return undefined;
    let frame = 0;
    const look = () => {
      frame = 0;
      const start = Math.max(0, Math.floor(element.scrollTop / ROW_HEIGHT) - SPARE_ROWS);
      const end = Math.ceil((element.scrollTop + element.clientHeight) / ROW_HEIGHT) + SPARE_ROWS;
      setWindow((before) => (before[0] === start && before[1] === end ? before : [start, end]));
    };
    const later = () => { frame ||= requestAnimationFrame(look); };
    look();
    element.addEventListener("scroll", later, { passive: true });
    addEventListener("resize", later);
    return () => {
      cancelAnimationFrame(frame);
      element.removeEventListener("scroll", later);
      removeEventListener("resize", later);
    };
  }, [virtual]);
  if (!sorted.length && empty !== undefined) return empty;
  const keyOf = typeof rowKey === "function" ? rowKey : (/** @type {any} */ row) => row[rowKey];
  const last = virtual ? Math.min(to, sorted.length) : sorted.length;
  const begin = virtual ? Math.min(from, last) : 0;
  const shown = virtual ? sorted.slice(begin, last) : sorted;
  // A row that has been drawn is drawn again only when it, its place or the columns have changed: scrolling makes only the rows that come.
  /** @type {Map<any, {row: any, at: number, node: any}>} */
  const drawn = new Map();
  const known = held.current.columns === columns ? held.current.drawn : new Map();
  const nodes = shown.map((row, n) => {
    const [key, at] = [keyOf(row), begin + n + 2];
    const old = known.get(key);
    const node = old && old.row === row && old.at === at ? old.node : html`<tr key=${key} class=${rowClass?.(row)} aria-rowindex=${virtual ? at : undefined}>
          ${columns.map((column) => html`<td key=${column.key} class=${classOf(column)}>${column.cell ? column.cell(row) : row[column.key]}</td>`)}</tr>`;
    drawn.set(key, { row, at, node });
    return node;
  });
  held.current = { columns, drawn };
  return html`<div class=${`table ${virtual ? "virtual" : ""} ${extra}`} ref=${box} role="region" aria-label=${label} tabindex="0">
    <table aria-rowcount=${virtual ? sorted.length + 1 : undefined}>
      <thead><tr aria-rowindex=${virtual ? 1 : undefined}>${columns.map((column) => html`<${Head} key=${column.key} column=${column}
        sorted=${sortKey === column.key ? direction : null}
        onSort=${() => setSort(sortKey === column.key && direction === "up" ? [column.key, "down"] : [column.key, "up"])} />`)}</tr></thead>
      <tbody>
        ${begin > 0 && html`<tr key="above" class="space" aria-hidden="true" style=${{ height: `${begin * ROW_HEIGHT}px` }}><td colspan=${columns.length}></td></tr>`}
        ${nodes}
        ${last < sorted.length && html`<tr key="below" class="space" aria-hidden="true" style=${{ height: `${(sorted.length - last) * ROW_HEIGHT}px` }}><td colspan=${columns.length}></td></tr>`}
      </tbody>
    </table>
  </div>`;
}

/** @param {Column} column */
const classOf = ({ number, wide, actions, mono, grow }) => [number && "number", wide && "wide", actions && "row-actions", mono && "mono", grow && "grow"].filter(Boolean).join(" ") || undefined;

/** @param {{column: Column, sorted: "up" | "down" | null, onSort: () => void}} props */
function Head({ column, sorted, onSort }) {
  const name = column.actions ? html`<span class="hidden">${column.title}</span>` : column.title;
  return html`<th scope="col" class=${classOf(column)} aria-sort=${sorted ? (sorted === "up" ? "ascending" : "descending") : undefined}>
    ${column.sort ? html`<button type="button" class=${sorted ?? ""} title=${t("ui.sort")} onClick=${onSort}>${name}<${Icon} name=${sorted === "down" ? "in" : "up"} /></button>` : name}</th>`;
}

/**
 * @param {any[]} rows
 * @param {Column | undefined} column
 * @param {"up" | "down"} direction
 */
function order(rows, column, direction) {
  if (!column?.sort) return rows;
  const by = column.sort === true ? (/** @type {any} */ row) => row[column.key] : column.sort;
  const sign = direction === "up" ? 1 : -1;
  return rows.map((row) => /** @type {[any, any]} */ ([by(row), row])).sort(([a], [b]) => {
    if (a === b) return 0;
    if (a === null || a === undefined) return 1;
    if (b === null || b === undefined) return -1;
    return sign * (typeof a === "number" && typeof b === "number" ? a - b : compare(String(a), String(b)));
  }).map(([, row]) => row);
}
