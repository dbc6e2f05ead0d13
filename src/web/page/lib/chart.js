// Charts over time, each with a summary in words for those who don't see it.
import { html, useEffect, useRef } from "../vendor/preact.js";
import uPlot from "../vendor/uplot.js";
import { clock, number, t } from "./i18n.js";
import { colour, painted } from "./theme.js";

/**
 * @typedef {object} Series
 * @property {string} label
 * @property {(number | null)[]} values one for each point in time; `null` is a gap
 * @property {"main" | "second" | "third"} [colour]
 */

const COLOURS = { main: "--chart-1", second: "--chart-2", third: "--chart-3" };
/** @type {("main" | "second" | "third")[]} */
const ORDER = ["main", "second", "third"];

/**
 * A chart. It follows its data, its width and the theme; the values under the pointer stand in its legend.
 * @param {object} props
 * @param {string} props.title
 * @param {number[]} props.at Unix seconds, ascending
 * @param {Series[]} props.series
 * @param {(value: number) => string} [props.format] of its values
 * @param {number} [props.height] in pixels
 */
export function Chart({ title, at, series, format = (value) => number(value), height = 150 }) {
  const box = useRef(/** @type {HTMLDivElement | null} */ (null));
  const plot = useRef(/** @type {any} */ (null));
  const version = painted.value;
  const shape = series.map(({ label, colour: name }) => `${label} ${name}`).join("|");
  const data = /** @type {any} */ ([at, ...series.map(({ values }) => values)]);
  const latest = useRef({ data, format });
  latest.current = { data, format };

  useEffect(() => {
    const element = box.current;
    if (!element) return undefined;
    const made = new uPlot(options(series, element.clientWidth || 300, height, (value) => latest.current.format(value)), latest.current.data, element);
    plot.current = made;
    const watcher = new ResizeObserver(() => made.setSize({ width: element.clientWidth, height }));
    watcher.observe(element);
    return () => {
      watcher.disconnect();
      made.destroy();
      plot.current = null;
    };
  }, [shape, height, version]);
  useEffect(() => { plot.current?.setData(latest.current.data); }, [at, ...series.map(({ values }) => values)]);

  return html`<figure class="chart"><figcaption><span class="strong">${title}</span>
    ${series.map(({ label, colour: name, values }, n) => html`<span class=${`legend ${name ?? ORDER[n]}`} key=${label}>${series.length > 1 && label} <b>${text(last(values), format)}</b></span>`)}
  </figcaption><div class="plot" ref=${box} aria-hidden="true"></div><p class="hidden">${summary(series, at, format)}</p></figure>`;
}

/** @param {(number | null)[]} values */
const last = (values) => values.findLast((value) => value !== null && value !== undefined) ?? null;
/** @param {number | null} value @param {(value: number) => string} format */
const text = (value, format) => (value === null ? "–" : format(value));

/**
 * What a chart shows, in words.
 * @param {Series[]} series
 * @param {number[]} at
 * @param {(value: number) => string} format
 * @returns {string}
 */
export function summary(series, at, format) {
  return series.map(({ label, values }) => {
    const known = /** @type {number[]} */ (values.filter((value) => value !== null && value !== undefined));
    if (!known.length) return t("ui.chart.none", { label });
    const [low, high] = known.reduce(([a, b], value) => [Math.min(a, value), Math.max(b, value)], [Infinity, -Infinity]);
    return t("ui.chart.summary", {
      label, now: format(known[known.length - 1]), low: format(low), high: format(high),
      from: clock((at[0] ?? 0) * 1000), to: clock((at[at.length - 1] ?? 0) * 1000),
    });
  }).join(" ");
}

/**
 * The texts at an axis; where the format makes several ticks look alike, the whole numbers only.
 * @param {number[]} ticks
 * @param {(value: number) => string} format
 */
function labels(ticks, format) {
  const made = ticks.map(format);
  return new Set(made).size === made.length ? made : made.map((label, n) => (Number.isInteger(ticks[n]) ? label : ""));
}

/**
 * @param {Series[]} series
 * @param {number} width
 * @param {number} height
 * @param {(value: number) => string} format
 * @returns {any}
 */
function options(series, width, height, format) {
  const [soft, line] = [colour("--soft"), colour("--line")];
  const font = "11px system-ui, sans-serif";
  return {
    width, height, padding: [8, 16, 0, 0], legend: { show: false },
    cursor: { y: false, drag: { setScale: false }, points: { size: 6 } },
    scales: { x: { time: true }, y: { range: (/** @type {any} */ _, /** @type {number} */ low, /** @type {number} */ high) => [Math.min(0, low ?? 0), Math.max(high ?? 0, 1) * 1.1] } },
    axes: [
      { stroke: soft, font, grid: { show: false }, ticks: { stroke: line, size: 4 }, size: 26, space: 70, values: (/** @type {any} */ _, /** @type {number[]} */ ticks) => ticks.map((tick) => clock(tick * 1000).slice(0, 5)) },
      { stroke: soft, font, grid: { stroke: line, width: 1 }, ticks: { show: false }, size: 52, space: 34, values: (/** @type {any} */ _, /** @type {number[]} */ ticks) => labels(ticks, format) },
    ],
    series: [
      {},
      ...series.map(({ label, colour: name }, n) => {
        const stroke = colour(COLOURS[name ?? ORDER[n]]);
        return { label, stroke, width: 1.75, points: { show: false }, spanGaps: false, fill: n === 0 ? stroke.replace(/^rgb\((.*)\)$/, "rgba($1, 0.10)") : undefined };
      }),
    ],
    plugins: [tooltip(format)],
  };
}

/**
 * The values at the pointer, beside it.
 * @param {(value: number) => string} format
 */
function tooltip(format) {
  const box = document.createElement("div");
  box.className = "plot-tip";
  box.hidden = true;
  return {
    hooks: {
      init: (/** @type {any} */ plot) => plot.over.append(box),
      setCursor: (/** @type {any} */ plot) => {
        const { idx, left } = plot.cursor;
        box.hidden = idx === null || idx === undefined || left < 0;
        if (box.hidden) return;
        const lines = plot.series.slice(1).map((/** @type {any} */ entry, /** @type {number} */ n) => {
          const value = plot.data[n + 1][idx];
          return `${plot.series.length > 2 ? `${entry.label} ` : ""}${value === null || value === undefined ? "–" : format(value)}`;
        });
        box.textContent = [clock(plot.data[0][idx] * 1000), ...lines].join(" · ");
        box.classList.toggle("left", left > plot.over.clientWidth / 2);
        box.style.transform = `translateX(${left}px)`;
      },
    },
  };
}
