// Data of the server as components hold it: one thing, or the pages of a list.
import { html, useCallback, useEffect, useRef, useState } from "../../vendor/preact.js";
import { get } from "../api.js";
import { t } from "../i18n.js";
import { Button } from "./action.js";
import { Failed, Loading } from "./show.js";

/**
 * Loads something when the component appears and when an input changes; what is there stays while it loads again.
 * @template T
 * @param {() => Promise<T>} work
 * @param {any[]} [inputs]
 * @returns {{data: T | undefined, error: unknown, loading: boolean, reload: () => Promise<void>, set: (data: T) => void}}
 */
export function useLoad(work, inputs = []) {
  const [state, setState] = useState(/** @type {{data: T | undefined, error: unknown, loading: boolean}} */ ({ data: undefined, error: null, loading: true }));
  const turn = useRef(0);
  const latest = useRef(work);
  latest.current = work;
  const reload = useCallback(async () => {
    turn.current += 1;
    const mine = turn.current;
    try {
      const data = await latest.current();
      if (mine === turn.current) setState({ data, error: null, loading: false });
    } catch (error) {
      if (mine === turn.current) setState((before) => ({ data: before.data, error, loading: false }));
    }
  }, []);
  useEffect(() => {
    setState({ data: undefined, error: null, loading: true });
    reload();
    return () => { turn.current += 1; };
  }, inputs);
  return { ...state, reload, set: (data) => { turn.current += 1; setState({ data, error: null, loading: false }); } };
}

/**
 * Shows what `useLoad` has: that it loads, that it failed, or the content.
 * @param {{of: {data: any, error: unknown, reload: () => any}, children: (data: any) => any}} props
 */
export function Loaded({ of, children }) {
  if (of.data === undefined) return of.error ? html`<${Failed} error=${of.error} retry=${of.reload} />` : html`<${Loading} />`;
  return html`${of.error && html`<${Failed} error=${of.error} retry=${of.reload} />`}${children(of.data)}`;
}

/**
 * @typedef {object} Pages
 * @property {any[]} rows what has been loaded
 * @property {boolean} loading before the first page is there
 * @property {unknown} error
 * @property {boolean} hasMore
 * @property {() => Promise<void>} more loads the next page
 * @property {() => Promise<void>} reload loads as many entries again as there are
 * @property {(change: (rows: any[]) => any[]) => void} update changes what is shown, until it is loaded again
 */

/**
 * The pages of a list of the API.
 * @param {string} path
 * @param {Record<string, any>} [query] it is loaded anew when one of them changes
 * @param {(answer: import("../api.js").Answer) => any[]} [rowsOf] where the list is not `data` itself
 * @returns {Pages}
 */
export function usePages(path, query = {}, rowsOf = (answer) => answer.data) {
  const [state, setState] = useState({ rows: /** @type {any[]} */ ([]), next: /** @type {any} */ (undefined), error: /** @type {unknown} */ (null), loading: true });
  const turn = useRef(0);
  const held = useRef(state);
  held.current = state;
  const load = async (/** @type {number} */ wanted, /** @type {boolean} */ onward) => {
    turn.current += 1;
    const mine = turn.current;
    try {
      const rows = onward ? [...held.current.rows] : [];
      let next = onward ? held.current.next : undefined;
      do {
        const answer = await get(path, { limit: 100, ...query, after: next });
        rows.push(...rowsOf(answer));
        next = answer.next ?? answer.data?.next;
      } while (next !== undefined && rows.length < wanted);
      if (mine === turn.current) setState({ rows, next, error: null, loading: false });
    } catch (error) {
      if (mine === turn.current) setState((before) => ({ ...before, error, loading: false }));
    }
  };
  useEffect(() => {
    setState({ rows: [], next: undefined, error: null, loading: true });
    load(1, false);
    return () => { turn.current += 1; };
  }, [path, JSON.stringify(query)]);
  return {
    rows: state.rows,
    loading: state.loading,
    error: state.error,
    hasMore: state.next !== undefined,
    more: () => load(held.current.rows.length + 1, true),
    reload: () => load(Math.max(1, held.current.rows.length), false),
    update: (change) => setState((before) => ({ ...before, rows: change(before.rows) })),
  };
}

/**
 * What stands below a list: that it loads or failed, and the button for more of it.
 * @param {{list: Pages}} props
 */
export function More({ list }) {
  if (list.error) return html`<${Failed} error=${list.error} retry=${list.reload} />`;
  if (list.loading) return html`<${Loading} />`;
  return list.hasMore ? html`<div class="more"><${Button} onClick=${list.more}>${t("ui.more")}<//></div>` : null;
}
