// Chromium: tickets instead of tokens in URLs, a queue in localStorage, the events of the browser, the example page.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFile } from "node:fs/promises";
import http from "node:http";
import { extname, join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";
import { PASSWORD, Server, until } from "./support.js";

const root = fileURLToPath(new URL("..", import.meta.url));
const TYPES = { ".js": "text/javascript", ".html": "text/html" };
let files;
let origin;
let server;
let browser;

before(async () => {
  files = http.createServer(async (request, response) => {
    const path = new URL(request.url, "http://x").pathname;
    const file = path === "/page.html" ? "examples/page.html" : path.slice(1);
    const body = path === "/blank.html" ? "<!doctype html><title>blank</title>" : await readFile(join(root, file)).catch(() => null);
    response.writeHead(body === null ? 404 : 200, { "Content-Type": TYPES[extname(path)] ?? "text/plain" }).end(body ?? "");
  });
  await new Promise((ready) => files.listen(0, "127.0.0.1", ready));
  origin = `http://127.0.0.1:${files.address().port}`;
  server = await Server.start(`origins = ["${origin}"]\n[limits]\nconnects_per_minute = 0\n`);
  const executablePath = process.env.CHROMIUM ?? execFileSync("sh", ["-c", "command -v chromium || command -v chromium-browser || command -v google-chrome"], { encoding: "utf8" }).trim();
  browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"] });
});
after(async () => {
  await browser?.close();
  await server?.remove();
  files.closeAllConnections();
  files.close();
});

/** A page that has the package, and the URLs of its sockets. */
async function open(t, path) {
  const context = await browser.newContext();
  t.after(() => context.close());
  context.setDefaultTimeout(40_000);
  const page = await context.newPage();
  const sockets = [];
  const faults = [];
  page.on("websocket", (socket) => sockets.push(socket.url()));
  page.on("pageerror", (error) => faults.push(error.message));
  await page.goto(origin + path);
  return { page, sockets, faults };
}

test("page_connects_with_tickets_and_comes_back", async (t) => {
  const user = await server.user();
  const { page, sockets, faults } = await open(t, "/blank.html");
  await page.evaluate(async ([url, token]) => {
    const { DeviceWebSocketClient } = await import("/dist/esm/index.js");
    const client = (window.client = new DeviceWebSocketClient(token, url, { client: "page", store: localStorage, backOff: { first: 600, most: 600 }, onError: null }));
    window.notes = [];
    client.onMessage("note", ({ message }) => window.notes.push(message));
    await client.connect();
  }, [server.base, user.token]);
  await server.push(user, 1);
  await page.waitForFunction(() => window.notes.length === 1);
  await page.waitForFunction(() => JSON.parse(localStorage["qy-lty:page"]).id > 0);
  assert.equal((await page.evaluate(() => window.client.request("weather"))).type, "weather_response");

  await server.kill();
  await page.waitForFunction(() => window.client.state !== "connected");
  await page.evaluate(() => void (window.send = window.client.requestSing("later")));
  assert.equal(JSON.parse(await page.evaluate(() => localStorage["qy-lty:page"])).queue.length, 1);
  await server.run();
  await server.push(user, 2);
  // A delay of minutes; but the network is back.
  await page.waitForFunction(() => (window.client.state === "waiting" && dispatchEvent(new Event("online")), window.client.state === "connected"));
  assert.equal((await page.evaluate(() => window.send.outcome)).status, "answered");
  await page.waitForFunction(() => window.notes.length === 2);
  assert.ok(sockets.length >= 2);
  for (const url of sockets) {
    assert.ok(!url.includes("qlt_"), url);
    assert.match(url, /[?&]ticket=/);
  }
  await page.evaluate(() => window.client.disconnect());
  assert.deepEqual(faults, []);
});

test("page_with_a_device_token_or_a_ticket_of_its_own_connects", async (t) => {
  const user = await server.user();
  const { id } = await server.call("POST", "/api/devices", { name: "lamp" }, user.token);
  const { token } = await server.call("POST", `/api/devices/${id}/token`, {}, user.token);
  const { page, sockets } = await open(t, "/blank.html");
  const states = await page.evaluate(async ([url, device, own]) => {
    const { DeviceWebSocketClient } = await import("/dist/esm/index.js");
    const ticket = async () => {
      const response = await fetch(`${url}/api/auth/ticket`, { method: "POST", headers: { Authorization: `Token ${own}` } });
      return (await response.json()).data.ticket;
    };
    const clients = [new DeviceWebSocketClient(device, url), new DeviceWebSocketClient("", url, { ticket }), new DeviceWebSocketClient("qlt_wrong", url)];
    const connected = await Promise.all(clients.map((client) => client.connect()));
    const { state } = clients[2];
    await Promise.all(clients.map((client) => client.disconnect()));
    return [connected, state];
  }, [server.base, token, user.token]);
  assert.deepEqual(states, [[true, true, false], "gone"]);
  for (const url of sockets) assert.ok(!url.includes("qlt_"), url);
});

test("forgotten_ticket_is_replaced", async (t) => {
  const user = await server.user();
  const { page } = await open(t, "/blank.html");
  assert.equal(await page.evaluate(async ([url, own]) => {
    const { DeviceWebSocketClient } = await import("/dist/esm/index.js");
    let calls = 0;
    const ticket = async () => {
      if (++calls === 1) return "qlk_forgotten";
      const response = await fetch(`${url}/api/auth/ticket`, { method: "POST", headers: { Authorization: `Token ${own}` } });
      return (await response.json()).data.ticket;
    };
    const client = new DeviceWebSocketClient("", url, { ticket });
    const connected = await client.connect();
    await client.disconnect();
    return connected && calls;
  }, [server.base, user.token]), 2);
});

test("example_page_shows_messages_and_answers", async (t) => {
  const user = await server.user();
  const { page, faults } = await open(t, `/page.html?url=${encodeURIComponent(server.base)}`);
  await page.fill("[name=username]", user.username);
  await page.fill("[name=password]", PASSWORD);
  await page.click("#login button");
  await page.waitForFunction(() => document.getElementById("state").textContent === "connected");
  await server.push(user, "<b>dinner</b>", "system");
  await page.waitForFunction(() => document.getElementById("list").textContent.includes("<b>dinner</b>"));
  await page.fill("[name=text]", "hello");
  await page.click("#ask button");
  await page.waitForFunction(() => document.getElementById("list").textContent.includes("收到消息:hello"));
  assert.deepEqual(faults, []);
  await until(async () => (await server.call("GET", `/api/queue/user/${user.id}`)).messages === 0);
});
