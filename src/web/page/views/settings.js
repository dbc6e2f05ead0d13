// The configuration in force and where each value comes from, and a backup to take away.
import { Badge, Button, Callout, Card, Empty, Loaded, Page, Search, Segmented, Table, html, useLoad, useMemo, useState } from "../lib/ui.js";
import { download, get } from "../lib/api.js";
import { t } from "../lib/i18n.js";
import { Narrow } from "./parts/narrow.js";

/** @type {Record<string, "plain" | "info" | "ok" | "warn">} */
const KINDS = { default: "plain", file: "info", environment: "ok", flag: "warn" };

export default function Settings() {
  const settings = useLoad(() => get("/api/settings").then((answer) => answer.data));
  return html`<${Page} title=${t("nav.settings")}>
    <${Backup} />
    <${Loaded} of=${settings}>${(/** @type {any} */ data) => html`<${Values} data=${data} />`}<//>
  <//>`;
}

function Backup() {
  return html`<${Card} title=${t("settings.backup")} about=${t("settings.backupText")} actions=${html`<${Button} kind="primary" icon="download"
    onClick=${async () => { await download("/api/backup", "qy-lty.backup.gz"); return t("settings.backupDone"); }}>${t("settings.backupGet")}<//>`}>
    <p class="soft">${t("settings.backupNote")}</p>
  <//>`;
}

/** @param {{data: {file: string | null, settings: any[]}}} props */
function Values({ data }) {
  const [text, setText] = useState("");
  const [which, setWhich] = useState("all");
  const changed = (/** @type {any} */ row) => row.changed ?? row.source !== "default";
  const sections = useMemo(() => {
    const wanted = text.trim().toLowerCase();
    /** @type {Map<string, any[]>} */
    const found = new Map();
    for (const row of data.settings) {
      if (which === "changed" && !changed(row)) continue;
      if (wanted && !`${row.key} ${JSON.stringify(row.value)} ${row.where ?? ""}`.toLowerCase().includes(wanted)) continue;
      const section = row.key.includes(".") ? row.key.slice(0, row.key.indexOf(".")) : "";
      found.set(section, [...(found.get(section) ?? []), row]);
    }
    return [...found];
  }, [data, text, which]);
  return html`
    <${Card} title=${t("settings.values")} about=${data.file ? t("settings.file", { file: data.file }) : t("settings.noFile")}>
      <p class="soft">${t("settings.how")}</p>
      <div class="adm-filters"><${Search} label=${t("settings.search")} wide value=${text} onInput=${setText} />
        <${Segmented} label=${t("settings.which")} value=${which} onChange=${setWhich} options=${["all", "changed"].map((value) => ({ value, label: t(`settings.which.${value}`) }))} /></div>
    <//>
    ${!sections.length && html`<${Card}><${Empty} icon="settings" title=${t("settings.none")} /><//>`}
    ${sections.map(([section, rows]) => html`<${Card} flush key=${section} title=${html`<code>${section.endsWith("]") ? `[[${section.replace(/\[\d+\]$/, "")}]]` : `[${section}]`}</code>`}>
      <${Table} label=${section} rows=${rows} rowKey="key" class="settings-table" rowClass=${(/** @type {any} */ row) => (changed(row) ? "changed" : "")} columns=${[
        { key: "key", title: t("settings.key"), mono: true, cell: (/** @type {any} */ row) => html`${row.key.slice(section.length + 1)}<${Narrow} parts=${[html`<${Value} row=${row} />`]} />` },
        { key: "value", title: t("settings.value"), wide: true, cell: (/** @type {any} */ row) => html`<${Value} row=${row} />` },
        { key: "source", title: t("settings.source"), cell: (/** @type {any} */ row) => html`<${Badge} kind=${KINDS[row.source] ?? "plain"}>${t(`settings.source.${row.source}`)}<//>${row.restart_pending && html` <${Badge} kind="bad" title=${t("settings.restartAbout")}>${t("settings.restart")}<//>`}` },
        { key: "where", title: t("settings.where"), mono: true, wide: true, cell: (/** @type {any} */ row) => html`<span class="soft">${row.where ?? ""}</span>` },
      ]} />
    <//>`)}
    <${Callout}>${t("settings.change")}<//>`;
}

/** @param {{row: any}} props */
function Value({ row }) {
  if (row.secret) return html`<span class="soft">${t(row.set ? "settings.hidden" : "settings.unset")}</span>`;
  if (row.value === null || row.value === undefined) return html`<span class="soft">${t("settings.unset")}</span>`;
  if (Array.isArray(row.value) && !row.value.length) return html`<span class="soft">${t("settings.emptyList")}</span>`;
  return html`<code class="settings-value">${typeof row.value === "string" ? row.value || '""' : JSON.stringify(row.value)}</code>`;
}
