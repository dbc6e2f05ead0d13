// The result of `npm pack`, installed into an empty project: ESM, CommonJS, and the types of both.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { Server } from "./support.js";

const root = fileURLToPath(new URL("..", import.meta.url));
let project;
let server;
before(async () => {
  server = await Server.start();
  project = await mkdtemp(join(tmpdir(), "qy-lty-js-"));
  await writeFile(join(project, "package.json"), '{"private":true}');
  // What `prepack` builds is there already; other tests use it.
  const [{ filename, files }] = [JSON.parse(execFileSync("npm", ["pack", "--ignore-scripts", "--json", "--pack-destination", project], { cwd: root }))].map((list) => Object.values(list)[0]);
  assert.ok(files.some(({ path }) => path === "LICENSE-MIT") && files.some(({ path }) => path === "README.md"));
  assert.ok(!files.some(({ path }) => /^(test|src|examples|scripts)\//.test(path)));
  execFileSync("npm", ["install", "--offline", "--no-audit", "--no-fund", join(project, filename)], { cwd: project });
});
after(async () => {
  await server?.remove();
  await rm(project, { recursive: true, force: true });
});

const round = (imports) => `
  ${imports}
  (async () => {
    const client = new DeviceWebSocketClient(process.argv[2], process.argv[3], { WebSocket });
    await client.connect();
    const { data } = await client.request("weather");
    await client.disconnect();
    const { username } = await new RestClient(process.argv[3], process.argv[2]).me();
    console.log(data.city.name, username, typeof fileStore, new RequestError("x") instanceof Error);
  })();
`;

test("packed_package_works_from_esm_and_commonjs", async () => {
  const user = await server.user();
  const ws = join(root, "node_modules/ws/index.js");
  await writeFile(join(project, "a.mjs"), round(`
    import WebSocket from ${JSON.stringify(ws)}; import { DeviceWebSocketClient, RequestError } from "qy-lty-client";
    import { RestClient } from "qy-lty-client/rest"; import { fileStore } from "qy-lty-client/file";`));
  await writeFile(join(project, "b.cjs"), round(`
    const WebSocket = require(${JSON.stringify(ws)}); const { DeviceWebSocketClient, RequestError } = require("qy-lty-client");
    const { RestClient } = require("qy-lty-client/rest"); const { fileStore } = require("qy-lty-client/file");`));
  for (const file of ["a.mjs", "b.cjs"]) {
    const out = execFileSync(process.execPath, [file, user.token, server.ws], { cwd: project, encoding: "utf8", timeout: 60_000 });
    assert.equal(out, `北京 ${user.username} function true\n`);
  }
});

test("packed_declarations_are_strict", async () => {
  const good = `
    import { DeviceWebSocketClient, webStore, type Outcome, type Frame, type Send } from "qy-lty-client";
    import { RestClient } from "qy-lty-client/rest";
    import { fileStore } from "qy-lty-client/file";
    const client = new DeviceWebSocketClient(async () => "t", "ws://h", { ack: "client", concurrency: 2, store: fileStore("f"), backOff: { first: 1 } });
    const stop: () => void = client.on("missed", ({ count }) => { const n: number | null = count; void n; });
    const send: Send = client.sendMessage("weather", { city: "x" }, { retry: true });
    send.outcome.then((outcome: Outcome) => { if (outcome.status === "answered") { const reply: Frame = outcome.reply; void reply; } });
    async function f() {
      for await (const part of client.chat("q")) part.toUpperCase();
      const device = await new RestClient("http://h").createDevice({ name: "n" });
      const online: boolean = device.online; void online; stop(); webStore({ getItem: () => null, setItem() {} });
    }
    void f;
  `;
  await writeFile(join(project, "good.mts"), good);
  await writeFile(join(project, "good.cts"), good);
  await writeFile(join(project, "bad.mts"), `
    import { DeviceWebSocketClient } from "qy-lty-client";
    new DeviceWebSocketClient("t", "ws://h", { ack: "never" });
    new DeviceWebSocketClient("t").on("no_such_event", () => {});
  `);
  const tsc = (...files) => execFileSync(process.execPath, [join(root, "node_modules/typescript/bin/tsc"), "--noEmit", "--strict", "--module", "nodenext", "--target", "es2022",
    "--lib", "es2022,dom,dom.asynciterable", "--types", "", ...files], { cwd: project, encoding: "utf8" });
  tsc("good.mts", "good.cts");
  assert.throws(() => tsc("bad.mts"), (error) => /bad\.mts\(3,/.test(error.stdout) && /bad\.mts\(4,/.test(error.stdout));
});

test("version_is_that_of_the_server", async () => {
  const cargo = await readFile(join(root, "../../Cargo.toml"), "utf8");
  const { version } = JSON.parse(await readFile(join(root, "package.json"), "utf8"));
  assert.equal(version, /^version = "(.+)"$/m.exec(cargo)[1]);
});
