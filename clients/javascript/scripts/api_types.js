// Writes the types of the REST API, `src/api.d.ts`, from the OpenAPI document. With `--check` it only compares.
import { readFile, writeFile } from "node:fs/promises";

const document = JSON.parse(await readFile(new URL("../../../docs/api/openapi.json", import.meta.url), "utf8"));
const target = new URL("../src/api.d.ts", import.meta.url);
const METHODS = ["get", "put", "post", "patch", "delete"];

const comment = (text, indent) => (text ? `${indent}/** ${text.replaceAll("*/", "*\\/").replace(/\s+/g, " ")} */\n` : "");
const name = (key) => (/^[A-Za-z_$][\w$]*$/.test(key) ? key : JSON.stringify(key));

/** Returns the TypeScript of a schema. */
function type(schema, indent) {
  if (!schema || schema === true) return "unknown";
  if (schema.$ref) return schema.$ref.split("/").pop();
  if ("const" in schema) return JSON.stringify(schema.const);
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  const alternatives = schema.oneOf ?? schema.anyOf;
  if (alternatives) return [...new Set(alternatives.map((one) => type(one, indent)))].join(" | ");
  if (Array.isArray(schema.type)) return schema.type.map((one) => type({ ...schema, type: one }, indent)).join(" | ");
  if (schema.type === "array") return `Array<${type(schema.items, indent)}>`;
  if (schema.type === "object" || schema.properties) return object(schema, indent);
  return { string: "string", integer: "number", number: "number", boolean: "boolean", null: "null" }[schema.type] ?? "unknown";
}

function object(schema, indent) {
  const properties = Object.entries(schema.properties ?? {});
  if (!properties.length) return "Record<string, unknown>";
  const deeper = `${indent}  `;
  const required = new Set(schema.required);
  const lines = properties.map(([key, value]) =>
    `${comment(value.description, deeper)}${deeper}${name(key)}${required.has(key) ? "" : "?"}: ${type(value, deeper)};\n`);
  return `{\n${lines.join("")}${indent}}`;
}

const resolve = (node) => (node?.$ref ? node.$ref.split("/").slice(1).reduce((at, key) => at[key], document) : node);

/** Returns the entry of one operation: its query, body and the `data` of its answer. */
function operation(method, path, { operationId, summary, parameters = [], requestBody, responses }) {
  const query = parameters.map(resolve).filter((parameter) => parameter.in === "query");
  const body = resolve(requestBody)?.content?.["application/json"]?.schema;
  const success = Object.entries(responses).find(([status]) => status.startsWith("2"));
  const answer = resolve(success?.[1])?.content?.["application/json"]?.schema;
  const schema = answer?.$ref ? resolve(answer) : answer;
  const parts = { method: JSON.stringify(method.toUpperCase()), path: JSON.stringify(path) };
  parts.query = query.length ? object({ properties: Object.fromEntries(query.map((one) => [one.name, { ...one.schema, description: one.description }])), required: query.filter((one) => one.required).map((one) => one.name) }, "    ") : "undefined";
  parts.body = body ? type(body, "    ") : "undefined";
  parts.data = schema?.properties?.data ? type(schema.properties.data, "    ") : "unknown";
  return `${comment(summary, "  ")}  ${operationId}: {\n${Object.entries(parts).map(([key, value]) => `    ${key}: ${value};\n`).join("")}  };\n`;
}

let text = "// Generated from docs/api/openapi.json by scripts/api_types.js. Do not edit.\n\n";
for (const [key, schema] of Object.entries(document.components.schemas)) {
  text += `${comment(schema.description, "")}export type ${key} = ${type(schema, "")};\n\n`;
}
text += "/** The operations of the REST API by their `operationId`. */\nexport interface Operations {\n";
for (const [path, item] of Object.entries(document.paths)) {
  for (const method of METHODS) if (item[method]) text += operation(method, path, item[method]);
}
text += "}\n";

if (process.argv.includes("--check")) {
  const present = await readFile(target, "utf8").catch(() => "");
  if (present !== text) {
    console.error("src/api.d.ts is not that of docs/api/openapi.json: run `npm run api-types`");
    process.exit(1);
  }
} else {
  await writeFile(target, text);
}
