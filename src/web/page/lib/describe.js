// The descriptions of the API, OpenAPI 3.1 and AsyncAPI 3.0, as lists that the API pages show; and programs that make a call.
import { ROOT } from "./api.js";

/**
 * @typedef {object} Operation
 * @property {string} id part of the page's address
 * @property {string} verb
 * @property {string} path
 * @property {string} group
 * @property {string} summary
 * @property {string} [description]
 * @property {string[]} callers the roles that may call it
 * @property {{name: string, in: string, required: boolean, description: string, schema: any, example: any}[]} parameters
 * @property {{schema: any, example: any} | null} body
 * @property {{status: string, description: string, schema: any, example: any, codes: string[]}[]} responses
 */
/**
 * @typedef {object} Event
 * @property {string} id
 * @property {"send" | "receive"} direction as the client does it
 * @property {string} name
 * @property {string} group the channel
 * @property {string} address
 * @property {string} summary
 * @property {string} [description]
 * @property {any} schema
 * @property {any[]} examples
 */

/** @param {string} text */
const slug = (text) => text.toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "");

/**
 * Follows references within a document.
 * @param {any} document
 * @param {any} node
 * @returns {any}
 */
export function resolve(document, node) {
  let found = node;
  for (let steps = 0; found?.$ref && steps < 20; steps += 1) {
    const { $ref, ...beside } = found;
    const target = $ref.replace(/^#\//, "").split("/").reduce((/** @type {any} */ at, /** @type {string} */ part) => at?.[decodeURIComponent(part.replaceAll("~1", "/").replaceAll("~0", "~"))], document);
    found = target && { ...target, ...beside, $name: $ref.split("/").at(-1) };
  }
  return found;
}

/** The first example of a media type, a parameter or a message. @param {any} document @param {any} holder */
function exampleOf(document, holder) {
  if (holder?.example !== undefined) return holder.example;
  const first = Object.values(holder?.examples ?? {})[0];
  const found = /** @type {any} */ (resolve(document, first));
  if (found !== undefined) return found.value ?? found.payload;
  const schema = resolve(document, holder?.schema);
  return schema?.examples?.[0] ?? schema?.example ?? schema?.default;
}

/** @param {any} content */
const json = (content) => content?.["application/json"] ?? content?.["application/json; charset=utf-8"] ?? Object.values(content ?? {})[0];

/** The error codes of a response. @param {any} document @param {any} response @param {any} media */
function codesOf(document, response, media) {
  if (Array.isArray(response["x-codes"])) return response["x-codes"];
  const schema = resolve(document, media?.schema);
  const parts = [schema, ...(schema?.allOf ?? []).map((/** @type {any} */ part) => resolve(document, part))];
  for (const part of parts) {
    const code = resolve(document, part?.properties?.code);
    if (code?.enum) return code.enum;
    if (code?.const) return [code.const];
  }
  const named = Object.values(media?.examples ?? {}).map((example) => /** @type {any} */ (resolve(document, example))?.value?.code).filter(Boolean);
  return named.length ? named : [media?.example?.code].filter(Boolean);
}

/**
 * @param {any} document of OpenAPI
 * @returns {Operation[]}
 */
export function operations(document) {
  const found = [];
  for (const [path, item] of Object.entries(/** @type {Record<string, any>} */ (document.paths ?? {}))) {
    for (const [method, operation] of Object.entries(/** @type {Record<string, any>} */ (item))) {
      if (!["get", "post", "put", "patch", "delete"].includes(method)) continue;
      const body = resolve(document, operation.requestBody);
      const media = json(body?.content);
      found.push({
        id: slug(`${method} ${path}`), verb: method.toUpperCase(), path, group: operation.tags?.[0] ?? path.split("/")[2] ?? "server",
        summary: operation.summary ?? "", description: operation.description, callers: callersOf(document, operation),
        parameters: [...(item.parameters ?? []), ...(operation.parameters ?? [])].map((given) => {
          const parameter = resolve(document, given);
          return {
            name: parameter.name, in: parameter.in, required: !!parameter.required, description: parameter.description ?? "",
            schema: parameter.schema, example: exampleOf(document, parameter),
          };
        }),
        body: media ? { schema: media.schema, example: exampleOf(document, media) } : null,
        responses: Object.entries(/** @type {Record<string, any>} */ (operation.responses ?? {})).map(([status, given]) => {
          const response = resolve(document, given);
          const content = json(response.content);
          return {
            status, description: response.description ?? "", schema: content?.schema, example: exampleOf(document, content),
            codes: Number(status) >= 400 ? codesOf(document, response, content) : [],
          };
        }),
      });
    }
  }
  return found;
}

/** The roles that may call an operation. @param {any} document @param {any} operation @returns {string[]} */
function callersOf(document, operation) {
  if (Array.isArray(operation["x-roles"])) return operation["x-roles"];
  const security = operation.security ?? document.security ?? [];
  return [...new Set(security.flatMap((/** @type {any} */ one) => Object.values(one).flat()))];
}

/**
 * @param {any} document of AsyncAPI
 * @returns {Event[]}
 */
export function events(document) {
  /** @type {Event[]} */
  const found = [];
  for (const [name, given] of Object.entries(/** @type {Record<string, any>} */ (document.operations ?? {}))) {
    const operation = resolve(document, given);
    const channel = resolve(document, operation.channel);
    const messages = operation.messages ?? Object.values(channel?.messages ?? {});
    for (const reference of messages) {
      const message = resolve(document, reference);
      if (!message) continue;
      const title = message.name ?? message.title ?? message.$name ?? name;
      // The document describes the server unless it says otherwise: what the application receives, the client sends.
      const direction = operation.action === "receive" ? "send" : "receive";
      const id = slug(`${direction} ${channel?.address ?? ""} ${title}`);
      if (found.some((event) => event.id === id)) continue;
      found.push({
        id, direction, name: title, group: channel?.title ?? channel?.address ?? name, address: channel?.address ?? "",
        summary: message.summary ?? operation.summary ?? "", description: message.description,
        schema: message.payload?.schema ?? message.payload, examples: (message.examples ?? []).map((/** @type {any} */ example) => example.payload ?? example),
      });
    }
  }
  return found;
}

/**
 * @typedef {object} Call
 * @property {string} verb
 * @property {string} url
 * @property {string | undefined} body JSON
 * @property {boolean} open no credential is needed
 */

/** @param {string} text */
const shell = (text) => `'${text.replaceAll("'", "'\\''")}'`;

/**
 * Programs that make a call, with a token in place of the page's session.
 * @param {Call} call
 * @returns {import("./snippets.js").Snippet[]}
 */
export function callSnippets({ verb, url, body, open }) {
  const { hostname, port, protocol, pathname, search } = new URL(url, ROOT);
  const secure = protocol === "https:";
  const value = body === undefined ? undefined : parsed(body);
  return [
    { id: "curl", label: "curl", text: [
      `curl${verb === "GET" ? "" : ` -X ${verb}`} ${shell(url)}`,
      ...(open ? [] : [`-H "Authorization: Token $TOKEN"`]),
      ...(body === undefined ? [] : ["-H 'Content-Type: application/json'", `-d ${shell(body)}`]),
    ].join(" \\\n  ") },
    { id: "javascript", label: "JavaScript", text: `const response = await fetch(${JSON.stringify(url)}, {
  method: "${verb}",
  headers: {${[!open && " Authorization: `Token ${TOKEN}`", body !== undefined && ` "Content-Type": "application/json"`].filter(Boolean).join(",")} },
${body === undefined ? "" : `  body: JSON.stringify(${indented(JSON.stringify(value, null, 2))}),\n`}});
console.log(response.status, await response.json());
` },
    { id: "python", label: "Python", text: `# pip install requests
import requests

response = requests.request(
    "${verb}",
    ${JSON.stringify(url)},
${open ? "" : `    headers={"Authorization": f"Token {TOKEN}"},\n`}${body === undefined ? "" : `    json=${indented(python(value), "    ")},\n`})
print(response.status_code, response.json())
` },
    { id: "arduino", label: "Arduino", text: `// Libraries: HTTPClient (ESP32)
#include <WiFi.h>
#include <HTTPClient.h>

void call() {
  ${secure ? "WiFiClientSecure client;\n  client.setInsecure(); // better: setCACert" : "WiFiClient client;"}
  HTTPClient http;
  http.begin(client, "${hostname}", ${port || (secure ? 443 : 80)}, ${JSON.stringify(pathname + search)}${secure ? ", true" : ""});
${open ? "" : `  http.addHeader("Authorization", String("Token ") + TOKEN);\n`}${body === undefined ? "" : `  http.addHeader("Content-Type", "application/json");\n`}  int status = http.sendRequest("${verb}"${body === undefined ? "" : `, ${JSON.stringify(JSON.stringify(value))}`});
  Serial.printf("%d %s\\n", status, http.getString().c_str());
  http.end();
}
` },
  ];
}

/** @param {string} body */
function parsed(body) {
  try {
    return JSON.parse(body);
  } catch {
    return body;
  }
}

/** @param {string} text @param {string} [by] */
const indented = (text, by = "  ") => text.replaceAll("\n", `\n${by}`);

/**
 * JSON as Python writes it.
 * @param {any} value
 * @param {string} [at]
 * @returns {string}
 */
function python(value, at = "") {
  if (value === null || value === undefined) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (typeof value !== "object") return JSON.stringify(value);
  const inner = `${at}    `;
  const entries = Array.isArray(value) ? value.map((item) => python(item, inner)) : Object.entries(value).map(([name, item]) => `${JSON.stringify(name)}: ${python(item, inner)}`);
  const [open, close] = Array.isArray(value) ? "[]" : "{}";
  return entries.length ? `${open}\n${entries.map((entry) => `${inner}${entry},\n`).join("")}${at}${close}` : open + close;
}
