// usage: chaos_driver.mjs URL TOKEN CLIENT COUNT [STORE_FILE]
// Handles messages of the type `chaos`, `{"n": int}`, and writes `n id` for each after it; ends with 0 once COUNT distinct ones are
// handled and the last is acknowledged. Peak memory goes to stderr. With STORE_FILE the position survives a killed driver.
import { appendFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import WebSocket from "ws";

const { DeviceWebSocketClient } = await import("qy-lty-client").catch(() => import(new URL("../src/index.js", import.meta.url)));
const { fileStore } = await import(new URL("../src/file.js", import.meta.url));
const [url, token, name, count, file] = process.argv.slice(2);
if (!count) {
  console.error(`usage: ${fileURLToPath(import.meta.url)} URL TOKEN CLIENT COUNT [STORE_FILE]`);
  process.exit(2);
}

const client = new DeviceWebSocketClient(token, url, {
  client: name, ack: "client", WebSocket, store: file ? fileStore(file) : undefined, backOff: { first: 0.1, most: 1 }, heartbeatSeconds: 2, connectTimeout: 10,
});
const seen = new Set();
let last = 0;
let peak = 0;
client.onError = () => {};
client.on("missed", (missed) => console.error("missed", JSON.stringify(missed)));
client.on("gone", (gone) => {
  console.error("gone", JSON.stringify(gone));
  process.exit(3);
});
client.onMessage("chaos", async ({ message, id }) => {
  // Enough: further ones are left to the next run.
  if (seen.size >= Number(count)) return new Promise(() => {});
  await new Promise((done) => setTimeout(done, Math.random() * 2));
  // Written at once: a killed driver has told of everything that it has handled.
  appendFileSync(1, `${message.n} ${id}\n`);
  seen.add(message.n);
  last = id;
  peak = Math.max(peak, process.memoryUsage.rss());
});
client.connect();

// The connection that follows tells in `last_id` what the server knows to be received.
client.on("connected", ({ last_id }) => {
  if (seen.size >= Number(count) && last_id >= last) finish();
});
for (;;) {
  await new Promise((done) => setTimeout(done, 100));
  if (seen.size < Number(count)) continue;
  await new Promise((done) => setTimeout(done, 500));
  await client.disconnect();
  client.connect();
  await new Promise((done) => setTimeout(done, 3000));
}

async function finish() {
  await client.disconnect();
  console.error(`peak ${Math.round(peak / 1024)} KiB`);
  process.exit(0);
}
