// The same round on Node with `ws` and with undici's class (that of Node 22 and later), on Bun, and on Deno.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { Server, until } from "./support.js";

const root = fileURLToPath(new URL("..", import.meta.url));
const program = fileURLToPath(new URL("fixtures/runtime.mjs", import.meta.url));
let server;
before(async () => (server = await Server.start("[limits]\nconnects_per_minute = 0\nrefusals_per_minute = 0\n")));
after(() => server.remove());

for (const [name, command, ...rest] of [
  ["node with ws", [process.execPath, program], "ws"],
  ["node with undici", [process.execPath, program], "undici"],
  ["bun", [`${root}node_modules/.bin/bun`, program]],
  ["deno", [`${root}node_modules/.bin/deno`, "run", "--allow-all", "--no-lock", "--no-config", program]],
]) {
  test(`client_works_on_${name.replaceAll(" ", "_")}`, async () => {
    const user = await server.user();
    const ids = [];
    for (const city of ["北京", "上海", "广州"]) ids.push(await server.push(user, city));
    const [file, ...args] = command;
    const { stdout } = await promisify(execFile)(file, [...args, server.ws, user.token, ...rest], { timeout: 90_000 });
    assert.deepEqual(JSON.parse(stdout), { parts: ["收到消息:hello"], notes: ["北京", "上海", "广州"], connected: false, state: "gone", address: null });
    await until(async () => (await server.call("GET", `/api/messages/${ids[2]}`)).status === "acked");
  });
}
