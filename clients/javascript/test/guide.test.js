// The guide's example 6.1: `fixtures/guide_6_1.js` is its text with the class replaced by the import. Only the token and the address are set here.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFile, rm, writeFile } from "node:fs/promises";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { Server, clientOf, collect, sleep, until } from "./support.js";

test("guide_example_runs_with_only_the_import_changed", async (t) => {
  const server = await Server.start();
  t.after(() => server.remove());
  const user = await server.user();
  const text = await readFile(new URL("fixtures/guide_6_1.js", import.meta.url), "utf8");
  const file = fileURLToPath(new URL(`fixtures/run_${process.pid}.mjs`, import.meta.url));
  t.after(() => rm(file, { force: true }));
  // Node before 22 has no WebSocket of its own.
  const own = 'import WebSocket from "ws"; globalThis.WebSocket ??= WebSocket;\n';
  await writeFile(file, own + text.replace("'your-auth-token'", `'${user.token}', '${server.ws}'`));
  const child = execFile(process.execPath, [file]);
  t.after(() => child.kill("SIGKILL"));
  let output = "";
  child.stdout.on("data", (data) => (output += data));
  child.stderr.on("data", (data) => (output += data));
  for (const line of ["已连接到设备服务", "连接状态: connected", "AI回复: 收到消息:你好,请介绍一下自己", "天气信息:"]) {
    await until(() => output.includes(line), `${line} in ${output}`);
  }
  await server.kill();
  await until(() => output.includes("与设备服务断开连接"));
});

test("guide_surface_is_kept", async (t) => {
  const server = await Server.start();
  t.after(() => server.remove());
  const user = await server.user();
  const client = clientOf(t, server, user.token, { heartbeatSeconds: 0.3 });
  const frames = collect(client, "message");
  const pongs = [];
  const closed = [];
  client.onMessage("pong", (frame) => pongs.push(frame));
  client.onDisconnect = (event) => closed.push(event.code);
  let opened = 0;
  client.onConnect = () => opened++;
  client.connect();
  await until(() => opened === 1);
  assert.equal(client.ws.readyState, 1);
  assert.equal(!!client.sendMessage("sing", { song: "青花瓷" }), true);
  assert.equal((await client.requestDance("街舞", "hiphop").outcome).reply.data.duration, "30秒");
  assert.equal((await client.requestSing("青花瓷", "周杰伦").outcome).reply.data.action, "start_singing");
  assert.equal((await client.requestWeather("上海").outcome).reply.data.city.name, "上海");
  await until(() => pongs.length >= 3);
  assert.equal(frames.filter(({ type }) => type === "sing_response").length, 2);
  await client.disconnect();
  assert.deepEqual(closed, [1000]);
  await sleep(400);
  assert.equal(opened, 1, "a client that was closed stays closed");
});
