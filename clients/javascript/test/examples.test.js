// The examples for programs, with the real server.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFile, rm, writeFile } from "node:fs/promises";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { Server, clientOf, until } from "./support.js";

const example = (name) => fileURLToPath(new URL(`../examples/${name}`, import.meta.url));

/** Starts an example; `output()` is everything it has written. */
function run(t, name, args, env) {
  return start(t, [example(name), ...args], env);
}

function start(t, args, env) {
  const child = spawn(process.execPath, args, { env: { ...process.env, ...env } });
  t.after(() => child.kill("SIGKILL"));
  let text = "";
  child.stdout.on("data", (data) => (text += data));
  child.stderr.on("data", (data) => (text += data));
  return { child, output: () => text };
}

test("app_shows_messages_and_answers_and_ends_cleanly", async (t) => {
  const server = await Server.start();
  t.after(() => server.remove());
  const user = await server.user();
  const { child, output } = run(t, "app.mjs", [], { QY_LTY_URL: server.ws, QY_LTY_TOKEN: user.token });
  await until(() => /°C/.test(output()), "the weather");
  await server.push(user, { a: 1 }, "system");
  await until(() => output().includes('admin: {"a":1}'));
  child.stdin.end("hello\n");
  const [code] = await once(child, "exit");
  assert.match(output(), /收到消息:hello/);
  assert.equal(code, 0, output());
});

test("story_handler_answers_signed_requests_only", async (t) => {
  const { output } = run(t, "story.mjs", ["0"], { SECRET: "secret-of-the-story" });
  const port = await until(() => /listening (\d+)/.exec(output())?.[1], "the handler");
  const url = `http://127.0.0.1:${port}/story`;
  assert.equal((await fetch(url, { method: "POST", body: "{}" })).status, 403);
  const server = await Server.start(`[[handler]]\ntype = "story"\nurl = "${url}"\nsecret = "secret-of-the-story"\n`);
  t.after(() => server.remove());
  const user = await server.user();
  const client = clientOf(t, server, user.token);
  await client.connect();
  const { data } = await client.request("story", { about: "a lamp" });
  assert.equal(data.title, "The story of a lamp");
});

test("ten_lines_of_the_readme_work", async (t) => {
  const server = await Server.start();
  t.after(() => server.remove());
  const user = await server.user();
  const readme = await readFile(new URL("../README.md", import.meta.url), "utf8");
  const [, code] = /## Ten lines[^]+?```js\n([^]+?)```/.exec(readme);
  const file = fileURLToPath(new URL(`fixtures/run_readme_${process.pid}.mjs`, import.meta.url));
  t.after(() => rm(file, { force: true }));
  const own = 'import WebSocket from "ws"; globalThis.WebSocket ??= WebSocket;\n';
  await writeFile(file, own + code.replace("qlt_…", user.token).replace("ws://localhost:8000", server.ws));
  const { output } = start(t, [file], {});
  await until(() => output().includes("收到消息:Tell me a story"), output);
  await server.push(user, "dinner", "system");
  await until(() => output().includes("admin dinner"), output);
});
