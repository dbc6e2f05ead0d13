// The REST helper, the pairing of a device, and the types.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import http from "node:http";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { RestClient, RestError, pair } from "qy-lty-client/rest";
import { PASSWORD, Server, clientOf, until } from "./support.js";

let server;
before(async () => (server = await Server.start()));
after(() => server.remove());

test("users_devices_and_messages_are_reached", async (t) => {
  const user = await server.user();
  const rest = new RestClient(`${server.ws}/`);
  assert.match(await rest.login(user.username, PASSWORD), /^qlt_/);
  assert.equal((await rest.me()).username, user.username);
  const device = await rest.createDevice({ name: "lamp", serial: `s${user.id}` });
  assert.deepEqual((await rest.devices()).map(({ name }) => name), ["lamp"]);
  assert.equal((await rest.updateDevice(device.id, { name: "light" })).name, "light");
  assert.equal((await rest.device(device.id)).name, "light");
  const sent = await rest.sendToUser(user.id, "note", { a: 1 }, { ttl: 60 });
  await rest.sendToDevice(device.id, "light", "on");
  assert.equal((await rest.receipt(sent.id)).status, "queued");
  assert.equal((await rest.queue("user", user.id)).messages, 1);
  assert.equal((await rest.queue("device", device.id)).messages, 1);
  await rest.takeBack(sent.id);
  assert.equal((await rest.receipt(sent.id)).status, "cancelled");
  assert.equal((await rest.clearQueue("device", device.id)).messages, 1);
  const client = clientOf(t, server, (await rest.createToken({ label: "x" })).token, { client: "phone" });
  await client.connect();
  assert.deepEqual((await rest.clients()).map(({ name }) => name), ["phone"]);
  await client.disconnect();
  await rest.deleteClient("phone");
  assert.match((await rest.ticket()).ticket, /./);
  await rest.sendToUser(user.id, "note", 1);
  await rest.sendToUser(user.id, "note", 2);
  const kept = [];
  for await (const { message } of rest.history()) kept.push(message);
  assert.deepEqual(kept, [1, 2]);
  const paged = [];
  for await (const { message } of rest.list("/api/messages/history", { since: 0, limit: 1 })) paged.push(message);
  assert.deepEqual(paged, [1, 2]);
  await rest.deleteDevice(device.id);
  await rest.logout();
  await assert.rejects(new RestClient(server.base, "qlt_x").me(), (error) => error instanceof RestError && error.status === 401 && error.code === "unauthorized");
  const admin = new RestClient(server.base, server.admin);
  assert.equal((await admin.broadcast("note", "all")).delivery, "queued");
  assert.ok((await admin.queue()).messages >= 1);
  assert.ok((await admin.clearQueue()).messages >= 1);
});

test("send_is_repeated_with_one_key_and_stored_once", async (t) => {
  const user = await server.user();
  const keys = [];
  // Passes each call on; drops the first answer, and refuses the second call.
  const faulty = http.createServer((request, response) => {
    keys.push(request.headers["idempotency-key"]);
    if (keys.length === 2) return response.writeHead(503, { "Retry-After": "1" }).end("busy");
    const onward = http.request(server.base + request.url, { method: request.method, headers: request.headers }, (answer) => {
      if (keys.length === 1) return response.destroy();
      response.writeHead(answer.statusCode, answer.rawHeaders);
      answer.pipe(response);
    });
    request.pipe(onward);
  });
  await new Promise((ready) => faulty.listen(0, "127.0.0.1", ready));
  t.after(() => (faulty.closeAllConnections(), faulty.close()));
  const rest = new RestClient(`http://127.0.0.1:${faulty.address().port}`, user.token);
  const start = Date.now();
  await rest.sendToUser(user.id, "note", "once");
  assert.ok(Date.now() - start >= 1000, "Retry-After is obeyed");
  assert.equal(keys.length, 3);
  assert.match(keys[0], /^[0-9a-f]{32}$/);
  assert.equal(new Set(keys).size, 1);
  assert.equal((await rest.queue("user", user.id)).messages, 1);
});

test("device_gets_its_token_by_pairing", async (t) => {
  const user = await server.user();
  const owner = new RestClient(server.base, user.token);
  let code;
  const pairing = pair({ baseUrl: server.ws, name: "robot", serial: `p${user.id}`, onCode: (text) => (code = text) });
  await until(() => code);
  await owner.claim({ code });
  const token = await pairing;
  const device = clientOf(t, server, token);
  const connected = new Promise((done) => device.on("connected", done));
  assert.equal(await device.connect(), true);
  assert.equal((await connected).device_id, (await owner.devices())[0].id);
  const stop = new AbortController();
  const aborted = pair({ baseUrl: server.base, name: "other", onCode: () => stop.abort(new Error("enough")), signal: stop.signal });
  await assert.rejects(aborted, /enough/);
  await assert.rejects(pair({ baseUrl: server.base, name: "x".repeat(200), onCode: assert.fail }), /name/);
});

test("pairing_goes_on_whatever_retry_after_says", async (t) => {
  const answers = [[429, "Wed, 21 Oct 2037 07:28:00 GMT"], [503, "soon"], [503, "1 minute"]];
  const web = http.createServer((_, response) => {
    const [status, retryAfter] = answers.shift() ?? [200];
    if (retryAfter) response.setHeader("Retry-After", retryAfter);
    response.writeHead(status, { "Content-Type": "application/json" });
    response.end(JSON.stringify(status === 200 ? { data: { state: "paired", token: "qlt_x" } } : { message: "later" }));
  });
  await new Promise((ready) => web.listen(0, "127.0.0.1", ready));
  t.after(() => (web.closeAllConnections(), web.close()));
  const began = Date.now();
  assert.equal(await pair({ baseUrl: `http://127.0.0.1:${web.address().port}`, name: "robot", onCode: assert.fail }), "qlt_x");
  assert.deepEqual(answers, []);
  assert.ok(Date.now() - began > 3000, "each failure is waited for");
});

test("types_are_those_of_the_document", () => {
  execFileSync(process.execPath, [fileURLToPath(new URL("../scripts/api_types.js", import.meta.url)), "--check"], { stdio: "inherit" });
});
