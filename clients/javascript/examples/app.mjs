// The smallest useful app: shows what arrives, asks for the weather, and sends what is typed as a question.
// usage: QY_LTY_URL=ws://localhost:8000 QY_LTY_TOKEN=qlt_… node app.mjs     (Node 20: npm install ws)
import { createInterface } from "node:readline";
import { DeviceWebSocketClient } from "qy-lty-client";

const { QY_LTY_URL, QY_LTY_TOKEN } = process.env;
const WebSocket = globalThis.WebSocket ?? (await import("ws")).default;
const client = new DeviceWebSocketClient(QY_LTY_TOKEN, QY_LTY_URL, { client: "example", WebSocket });

client.on("connected", ({ pending }) => console.log(`connected, ${pending} messages wait`));
client.on("disconnected", ({ reason, retryIn }) => console.log(`disconnected (${reason}); next attempt in ${retryIn.toFixed(1)} s`));
client.on("gone", ({ meaning }) => console.log(`stays away: ${meaning}`));
client.on("missed", ({ count }) => console.log(`${count ?? "some"} messages are gone`));
// Acknowledged when it returns: with the program killed before that, the message comes again.
client.onMessage("system", ({ message, sender }) => console.log(`${sender}: ${JSON.stringify(message)}`));

await client.connect();
const { data } = await client.request("weather", { city: "北京" });
console.log(`${data.city.name}: ${data.weather.now.text}, ${data.weather.now.temp} °C`);

for await (const line of createInterface({ input: process.stdin })) {
  for await (const part of client.chat(line)) process.stdout.write(part);
  process.stdout.write("\n");
}
await client.disconnect();
