// Parses docs/api/asyncapi.json, validates it, and every example against its schema.
//
// usage: asyncapi.mjs DOCUMENT
import { readFileSync } from "node:fs";
import { Parser, DiagnosticSeverity } from "@asyncapi/parser";

const { document, diagnostics } = await new Parser().parse(readFileSync(process.argv[2], "utf8"));
// Advice, such as to describe tags, is no fault.
const faults = diagnostics.filter(({ severity }) => severity === DiagnosticSeverity.Error || severity === DiagnosticSeverity.Warning);
for (const { code, message, path } of faults) console.error(`${path.join(".")}: ${message} (${code})`);
if (faults.length > 0 || !document) process.exit(1);
const messages = document.allMessages().all();
const operations = document.allOperations().all();
if (messages.length < 20 || operations.length < 20) throw new Error(`${messages.length} messages, ${operations.length} operations`);
if (!messages.every((message) => message.examples().all().length > 0)) throw new Error("a message has no example");
console.log(`asyncapi.json: ${messages.length} messages, ${operations.length} operations, 0 faults`);
