// The API pages: every route and every event, with schema, example and a place to try it; from the descriptions that the server serves.
import { Badge, Callout, Card, Code, Empty, Field, Form, Loaded, Page, Search, html, useLoad, useMemo, useState } from "../lib/ui.js";
import { exchange, me, url } from "../lib/api.js";
import { callSnippets, events, operations, resolve } from "../lib/describe.js";
import { duration, has, t } from "../lib/i18n.js";
import { link } from "../lib/router.js";
import { SnippetTabs, socketUrl } from "../lib/snippets.js";

/** The deepest that schemas are unfolded within each other. */
const MAX_DEPTH = 5;

/** @param {string} path */
async function document_(path) {
  const response = await fetch(url(path));
  return response.ok ? response.json() : null;
}

/** @param {{params: string[]}} props */
export default function Docs({ params }) {
  const load = useLoad(async () => {
    const [rest, socket] = await Promise.all([document_("/api/openapi.json"), document_("/api/asyncapi.json")]);
    return { rest, socket, operations: rest ? operations(rest) : [], events: socket ? events(socket) : [] };
  });
  return html`<${Page} title=${t("docs.title")} about=${t("docs.about")} actions=${html`<a href=${url("/api/openapi.json").href} download>OpenAPI</a> <a href=${url("/api/asyncapi.json").href} download>AsyncAPI</a>`}>
    <${Loaded} of=${load}>${(/** @type {any} */ data) => html`<${Content} data=${data} id=${params[0]} />`}<//>
  <//>`;
}

/** @param {{data: any, id: string | undefined}} props */
function Content({ data, id }) {
  const [filter, setFilter] = useState("");
  const groups = useMemo(() => grouped(data, filter.trim().toLowerCase()), [data, filter]);
  const operation = data.operations.find((/** @type {any} */ one) => one.id === id);
  const event = data.events.find((/** @type {any} */ one) => one.id === id);
  if (!data.operations.length && !data.events.length) return html`<${Empty} icon="docs" title=${t("docs.none")} />`;
  return html`<div class="docs">
    <nav class="docs-list" aria-label=${t("docs.list")}>
      <${Search} wide label=${t("docs.search")} value=${filter} onInput=${setFilter} />
      ${groups.map(([name, entries]) => html`<div key=${name}><h2>${name}</h2>${entries.map((entry) => html`
        <a key=${entry.id} href=${link("docs", entry.id)} aria-current=${entry.id === id ? "page" : undefined}><span class=${`verb ${entry.kind}`}>${entry.verb}</span><span>${entry.name}</span></a>`)}</div>`)}
      ${!groups.length && html`<p class="soft">${t("docs.noMatch")}</p>`}
    </nav>
    <div class="stack">
      ${operation ? html`<${Route} key=${id} document=${data.rest} operation=${operation} />`
        : event ? html`<${Frame} key=${id} document=${data.socket} event=${event} />`
        : html`<${Start} data=${data} unknown=${!!id} />`}
    </div>
  </div>`;
}

/**
 * @param {any} data
 * @param {string} filter
 * @returns {[string, {id: string, verb: string, kind: string, name: string}[]][]}
 */
function grouped(data, filter) {
  /** @type {Map<string, any[]>} */
  const groups = new Map();
  const add = (/** @type {string} */ group, /** @type {any} */ entry, /** @type {string} */ text) => {
    if (filter && !text.toLowerCase().includes(filter)) return;
    groups.set(group, [...(groups.get(group) ?? []), entry]);
  };
  for (const one of data.operations) {
    add(one.group, { id: one.id, verb: one.verb === "DELETE" ? "DEL" : one.verb, kind: one.verb.toLowerCase(), name: one.path }, `${one.verb} ${one.path} ${one.summary} ${one.group}`);
  }
  for (const one of data.events) {
    add(`WebSocket ${one.group}`, { id: one.id, verb: t(`docs.${one.direction}.short`), kind: one.direction, name: one.name }, `${one.name} ${one.summary} ${one.group}`);
  }
  return [...groups];
}

/** @param {{data: any, unknown: boolean}} props */
function Start({ data, unknown }) {
  return html`<${Card} title=${t("docs.start")}>
    ${unknown && html`<${Callout} kind="warn">${t("docs.unknown")}<//>`}
    <p>${t("docs.start.text")}</p>
    <ol class="stack"><li>${t("docs.start.token")}</li><li>${t("docs.start.call")}</li><li>${t("docs.start.connect")}</li></ol>
    <${SnippetTabs} label=${t("docs.copyAs")} snippets=${callSnippets({ verb: "POST", url: url("/api/messages/user/1").href, body: JSON.stringify({ type: "text", message: "hello" }), open: false })} />
    <p class="soft">${t("docs.count", { routes: data.operations.length, events: data.events.length })}</p>
  <//>`;
}

/** A text of the descriptions: what stands between backquotes is code. @param {{text: string}} props */
const Prose = ({ text }) => text.split("`").map((part, n) => (n % 2 ? html`<code key=${n}>${part}</code>` : part));

/** @param {{document: any, operation: import("../lib/describe.js").Operation}} props */
function Route({ document, operation }) {
  const { verb, path, summary, description, callers, parameters, body, responses } = operation;
  return html`
    <${Card}>
      <h2 class="docs-title"><span class=${`verb ${verb.toLowerCase()}`}>${verb}</span>${path}</h2>
      <p><${Prose} text=${summary} /></p>${description && description !== summary && html`<p class="soft"><${Prose} text=${description} /></p>`}
      ${callers.length > 0 && html`<p class="row"><span class="soft">${t("docs.callers")}</span>${callers.map((role) => html`<${Badge} key=${role}>${has(`docs.role.${role}`) ? t(`docs.role.${role}`) : role}<//>`)}</p>`}
      ${parameters.length > 0 && html`<h3>${t("docs.parameters")}</h3><ul class="schema">${parameters.map((one) => html`<li key=${one.name}>
        <span><code>${one.name}</code> <span class="type">${t(`docs.in.${one.in}`)} · ${typeName(document, one.schema)}</span> ${one.required && html`<span class="required">${t("docs.required")}</span>`}</span>
        ${one.description && html`<span><${Prose} text=${one.description} /></span>`}</li>`)}</ul>`}
      ${body && html`<h3>${t("docs.body")}</h3><${Schema} document=${document} schema=${body.schema} />`}
    <//>
    <${Try} operation=${operation} />
    <${Card} title=${t("docs.responses")}>
      ${responses.map((one) => html`<details key=${one.status} open=${one.status.startsWith("2")}><summary><${Badge} kind=${one.status < "300" ? "ok" : one.status < "400" ? "info" : one.status < "500" ? "warn" : "bad"}>${one.status}<//> ${one.description} ${one.codes.map((code) => html`<code key=${code}>${code}</code> `)}</summary>
        <div class="stack">${one.schema && one.status < "400" && html`<${Schema} document=${document} schema=${one.schema} />`}
        ${one.example !== undefined && html`<${Code} text=${JSON.stringify(one.example, null, 2)} label=${t("docs.example")} wrap />`}</div></details>`)}
    <//>`;
}

/** Calls a route with the session of the page, and shows the same call as programs. @param {{operation: import("../lib/describe.js").Operation}} props */
function Try({ operation }) {
  const { verb, path, parameters, body } = operation;
  const taken = parameters.filter((one) => one.in === "path" || one.in === "query");
  const [values, setValues] = useState(() => Object.fromEntries(taken.map((one) => [one.name, one.in === "path" || one.required ? String(one.example ?? "") : ""])));
  const [text, setText] = useState(body ? JSON.stringify(body.example ?? {}, null, 2) : "");
  const [answer, setAnswer] = useState(/** @type {import("../lib/api.js").Exchange | null} */ (null));
  const where = useMemo(() => {
    const filled = path.replace(/\{(\w+)\}/g, (whole, name) => (values[name] ? encodeURIComponent(values[name]) : whole));
    return url(filled, Object.fromEntries(taken.filter((one) => one.in === "query").map((one) => [one.name, values[one.name]])));
  }, [path, values]);
  const sent = body && text.trim() ? text : undefined;
  const open = operation.callers.includes("anonymous");
  const snippets = callSnippets({ verb, url: decodeURI(where.href), body: sent, open });
  return html`<${Card} title=${t("docs.try")}>
    <${Form} submit=${t("docs.try.send", { verb })} kind=${verb === "DELETE" ? "danger" : "primary"} onSubmit=${async () => {
      setAnswer(null);
      setAnswer(await exchange(verb, where, sent));
    }}>
      ${!me.value && html`<p class="soft">${t("docs.anonymous")}</p>`}
      ${taken.length > 0 && html`<div class="fields">${taken.map((one) => html`<${Field} key=${one.name} label=${one.name} name=${one.name} value=${values[one.name]} required=${one.in === "path"} mono
        onInput=${(/** @type {any} */ event) => { const { value } = event.currentTarget; setValues((before) => ({ ...before, [one.name]: value })); }} input=${{ autocomplete: "off", spellcheck: false }} />`)}</div>`}
      ${body && html`<${Field} label=${t("docs.body")} name="body" type="textarea" mono raw rows=${Math.min(12, text.split("\n").length + 1)} value=${text} input=${{ spellcheck: false }}
        onInput=${(/** @type {any} */ event) => setText(event.currentTarget.value)} />`}
    <//>
    <div role="status">${answer && html`<${Answer} answer=${answer} />`}</div>
    <h3>${t("docs.copyAs")}</h3>
    <${SnippetTabs} snippets=${snippets} label=${t("docs.copyAs")} />
  <//>`;
}

/** @param {{answer: import("../lib/api.js").Exchange}} props */
function Answer({ answer }) {
  let shown = answer.text;
  try {
    shown = JSON.stringify(JSON.parse(answer.text), null, 2);
  } catch { /* it is no JSON */ }
  return html`<div class="stack"><p class="row"><${Badge} kind=${answer.status < 400 ? "ok" : "bad"}>${answer.status}<//><span class="soft">${duration(answer.ms / 1000)}</span></p>
    ${shown ? html`<${Code} text=${shown.length > 100_000 ? `${shown.slice(0, 100_000)}…` : shown} label=${t("docs.answer")} wrap />` : html`<p class="soft">${t("docs.answer.empty")}</p>`}</div>`;
}

/** @param {{document: any, event: import("../lib/describe.js").Event}} props */
function Frame({ document, event }) {
  const example = event.examples[0];
  return html`<${Card}>
      <h2 class="docs-title"><span class=${`verb ${event.direction}`}>${t(`docs.${event.direction}`)}</span>${event.name}</h2>
      <p><${Prose} text=${event.summary} /></p>${event.description && event.description !== event.summary && html`<p class="soft"><${Prose} text=${event.description} /></p>`}
      <p><span class="soft">${t("docs.address")}</span> <code>${event.address}</code></p>
      <${Schema} document=${document} schema=${event.schema} />
    <//>
    ${event.examples.length > 0 && html`<${Card} title=${t("docs.example")}>${event.examples.map((one, n) => html`<${Code} key=${n} text=${JSON.stringify(one, null, 2)} label=${t("docs.example")} wrap />`)}
      <p><a href=${link("playground")}>${t("docs.playground")}</a></p><//>`}
    ${event.direction === "send" && example && html`<${Card} title=${t("docs.copyAs")}><${SnippetTabs} label=${t("docs.copyAs")} snippets=${frameSnippets(example)} /><//>`}`;
}

/** Programs that send a frame. @param {any} frame */
function frameSnippets(frame) {
  const address = `${socketUrl()}?token=`;
  const text = JSON.stringify(frame);
  return [
    { id: "javascript", label: "JavaScript", text: `const socket = new WebSocket(\`${address}\${TOKEN}\`);\nsocket.onopen = () => socket.send(JSON.stringify(${JSON.stringify(frame, null, 2)}));\nsocket.onmessage = ({ data }) => console.log(JSON.parse(data));\n` },
    { id: "python", label: "Python", text: `# pip install websockets\nfrom websockets.sync.client import connect\n\nwith connect(f"${address}{TOKEN}") as socket:\n    socket.send(r'''${text}''')\n    for frame in socket:\n        print(frame)\n` },
    { id: "arduino", label: "Arduino", text: `// Libraries: WebSockets (Markus Sattler); connected as for a device's token\nsocket.sendTXT(${JSON.stringify(text)});\n` },
    { id: "websocat", label: "websocat", text: `echo '${text.replaceAll("'", "'\\''")}' | websocat -n "${address}$TOKEN"\n` },
  ];
}

/** The name of a type. @param {any} document @param {any} given @returns {string} */
function typeName(document, given) {
  const schema = resolve(document, given);
  if (!schema || schema === true) return t("docs.any");
  const options = schema.anyOf ?? schema.oneOf;
  if (options) return options.map((/** @type {any} */ one) => typeName(document, one)).join(" | ");
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.enum) return schema.enum.map((/** @type {any} */ one) => JSON.stringify(one)).join(" | ");
  const type = Array.isArray(schema.type) ? schema.type.join(" | ") : schema.type ?? (schema.properties ? "object" : t("docs.any"));
  if (type === "array") return `${typeName(document, schema.items)}[]`;
  return schema.format && !/^u?int|double|float/.test(schema.format) ? `${type} (${schema.format})` : type;
}

/** The fields of an object, unfolded. @param {{document: any, schema: any, depth?: number}} props */
function Schema({ document, schema: given, depth = 0 }) {
  const schema = merged(document, given);
  if (!schema || schema === true) return depth ? null : html`<p class="type">${t("docs.any")}</p>`;
  const options = (schema.oneOf ?? schema.anyOf)?.map((/** @type {any} */ one) => merged(document, one)).filter((/** @type {any} */ one) => one?.properties);
  if (!schema.properties && options?.length) {
    return html`<div class="stack">${options.map((/** @type {any} */ one, /** @type {number} */ n) => html`<${Schema} key=${n} document=${document} schema=${one} depth=${depth} />`)}</div>`;
  }
  if (!schema.properties) return depth ? null : html`<p><code>${typeName(document, schema)}</code> ${schema.description && html`<${Prose} text=${schema.description} />`}</p>`;
  return html`<ul class="schema">${Object.entries(schema.properties).map(([name, value]) => {
    const field = merged(document, value);
    const inner = field?.type === "array" || (Array.isArray(field?.type) && field.type.includes("array")) ? merged(document, field.items) : field;
    const nested = inner && (inner.properties || inner.oneOf || inner.anyOf) && depth < MAX_DEPTH;
    return html`<li key=${name}><span><code>${name}</code> <span class="type">${typeName(document, field)}</span> ${schema.required?.includes(name) && html`<span class="required">${t("docs.required")}</span>`}</span>
      ${field?.description && html`<span><${Prose} text=${field.description} /></span>`}
      ${nested && html`<${Schema} document=${document} schema=${inner} depth=${depth + 1} />`}</li>`;
  })}</ul>`;
}

/** A schema with the parts of its `allOf` in one. @param {any} document @param {any} given */
function merged(document, given) {
  const schema = resolve(document, given);
  if (!schema?.allOf) return schema;
  const parts = schema.allOf.map((/** @type {any} */ part) => merged(document, part));
  return parts.reduce((/** @type {any} */ whole, /** @type {any} */ part) => ({
    ...whole, ...part, properties: { ...whole.properties, ...part?.properties }, required: [...(whole.required ?? []), ...(part?.required ?? [])],
  }), { ...schema, allOf: undefined });
}
