// What the tests of the page share: the server, a browser that tolerates nothing, a proxy, the program's own clients.
import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import http from "node:http";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { chromium } from "playwright-core";
import WebSocket from "ws";

export const PASSWORD = "correct-horse-battery";
const run = promisify(execFile);
const axe = await readFile(new URL("./node_modules/axe-core/axe.min.js", import.meta.url), "utf8");

/** A server in a directory of its own, which can be killed and started again at the same address. */
export class Server {
  static async start(binary, config = "") {
    const server = new Server();
    server.binary = binary;
    server.dir = await mkdtemp(join(tmpdir(), "qy-lty-page-"));
    server.address = "127.0.0.1:0";
    server.config = config;
    await server.run();
    return server;
  }

  async run() {
    await writeFile(join(this.dir, "c.toml"), `[server]\nlisten = "${this.address}"\ntrusted_proxies = ["127.0.0.1"]\n${this.config}`);
    this.process = spawn(this.binary, ["serve", "--config", "c.toml"], { cwd: this.dir, env: { ...process.env, QY_LTY_ADMIN_PASSWORD: PASSWORD } });
    this.address = await new Promise((found, lost) => {
      let log = "";
      this.process.stderr.on("data", (text) => {
        log += text;
        const at = /serving address=(\S+)/.exec(log);
        if (at) found(at[1]);
      });
      this.process.once("exit", () => lost(new Error(log)));
    });
    this.base = `http://${this.address}`;
  }

  async kill() {
    const ended = new Promise((done) => this.process.once("exit", done));
    this.process.kill("SIGKILL");
    await ended;
  }

  async remove() {
    if (this.process.exitCode === null && this.process.signalCode === null) await this.kill();
    await rm(this.dir, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 });
  }

  /** The program's own command line. */
  async cli(...args) {
    return (await run(this.binary, [...args, "--config", "c.toml"], { cwd: this.dir })).stdout.trim();
  }

  async call(method, path, body, token) {
    const headers = { ...(body !== undefined && { "Content-Type": "application/json" }), ...(token && { Authorization: `Token ${token}` }) };
    const response = await fetch(this.base + path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
    const answer = await response.json();
    assert.ok(response.ok, `${method} ${path}: ${response.status} ${answer.message}`);
    return answer;
  }

  async token(username, password = PASSWORD) {
    return (await this.call("POST", "/api/auth/login", { username, password })).data.token;
  }

  /** A program's WebSocket; resolves once it is open. `frames` has what it has received. */
  socket(query) {
    const socket = new WebSocket(`ws://${this.address}/ws/device/?${new URLSearchParams(query)}`);
    socket.frames = [];
    socket.on("message", (data) => socket.frames.push(JSON.parse(data)));
    return new Promise((open, failed) => {
      socket.on("error", failed);
      socket.once("message", () => open(socket));
    });
  }
}

/** A browser whose pages may reach this machine only, and may neither complain nor be complained about. */
export class Browser {
  static async launch(executablePath, screenshots) {
    const browser = new Browser();
    browser.screenshots = screenshots;
    browser.complaints = [];
    browser.outside = [];
    browser.tolerated = [];
    browser.browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"] });
    return browser;
  }

  async context(options = {}) {
    const context = await this.browser.newContext({ viewport: { width: 1280, height: 900 }, locale: "en-US", colorScheme: "light", ...options });
    context.setDefaultTimeout(20_000);
    context.on("request", (request) => {
      const { hostname, protocol } = new URL(request.url());
      if (hostname !== "127.0.0.1" && !["data:", "blob:"].includes(protocol)) this.outside.push(request.url());
    });
    await context.addInitScript(() => {
      addEventListener("securitypolicyviolation", (event) => console.error(`CSP violated: ${event.violatedDirective} ${event.blockedURI}`));
      window.longTasks = [];
      new PerformanceObserver((list) => window.longTasks.push(...list.getEntries().map((entry) => Math.round(entry.duration)))).observe({ type: "longtask", buffered: true });
    });
    return context;
  }

  async page(context) {
    const page = await context.newPage();
    const complain = (text) => {
      if (!this.tolerated.some((pattern) => pattern.test(text))) this.complaints.push(text);
    };
    page.on("console", (message) => { if (message.type() === "error") complain(`${message.text()} ${message.location().url}`); });
    page.on("pageerror", (error) => complain(error.stack));
    return page;
  }

  /** Runs `work`, in which a failed request of that kind is what is wanted: browsers write each to the console. */
  async tolerating(pattern, work) {
    this.tolerated.push(pattern);
    try {
      await work();
      await new Promise((later) => setTimeout(later, 100));
    } finally {
      this.tolerated.splice(this.tolerated.indexOf(pattern), 1);
    }
  }

  async shot(page, name) {
    if (this.screenshots) await page.screenshot({ path: join(this.screenshots, `${name}.png`) });
  }

  async close() {
    await this.browser.close();
  }
}

/** Accessibility: no violation of any rule. */
export async function accessible(page, where) {
  const session = await page.context().newCDPSession(page);
  const { result, exceptionDetails } = await session.send("Runtime.evaluate", {
    expression: `${axe}; axe.run(document, { resultTypes: ["violations"] }).then((r) => JSON.stringify(r.violations.map((v) => ({ id: v.id, nodes: v.nodes.slice(0, 4).map((n) => n.html.slice(0, 200) + " " + n.failureSummary) }))))`,
    awaitPromise: true, returnByValue: true,
  });
  await session.detach();
  assert.equal(exceptionDetails, undefined, `${where}: ${exceptionDetails?.text}`);
  assert.deepEqual(JSON.parse(result.value), [], `${where}: accessibility`);
}

/** Nothing is wider than the page. */
export async function fits(page, where) {
  const over = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  assert.ok(over <= 0, `${where} is ${over} pixels wider than the page`);
}

export async function signIn(page, username, password = PASSWORD) {
  await page.getByLabel("User name").fill(username);
  await page.getByLabel("Password").fill(password);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.locator("#navigation").waitFor({ state: "attached" });
}

/** Opens a view by its address, and waits until it is there. */
export async function open(page, base, place) {
  await page.goto(`${base}/#/${place}`);
  await page.locator("main h1").first().waitFor();
  await page.waitForFunction(() => !document.querySelector("main .loading"));
}

/** A reverse proxy that takes a path away, and says so where asked to; WebSockets, too. */
export async function proxy(address, prefix, says) {
  const [host, port] = address.split(":");
  const own = (path) => path === prefix || path.startsWith(`${prefix}/`) || path.startsWith(`${prefix}?`);
  const headersOf = (request) => (says ? { ...request.headers, "x-forwarded-prefix": prefix } : request.headers);
  const server = http.createServer((request, response) => {
    if (!own(request.url)) return response.writeHead(404).end();
    const path = request.url.slice(prefix.length) || "/";
    const onward = http.request({ host, port, method: request.method, path, headers: headersOf(request) }, (answer) => {
      response.writeHead(answer.statusCode, answer.rawHeaders);
      answer.pipe(response);
    });
    onward.on("error", () => response.destroy());
    request.pipe(onward);
  });
  server.on("upgrade", (request, client, head) => {
    if (!own(request.url)) return client.destroy();
    const onward = net.connect(Number(port), host, () => {
      const lines = Object.entries(headersOf(request)).map(([name, value]) => `${name}: ${value}`);
      onward.write(`GET ${request.url.slice(prefix.length)} HTTP/1.1\r\n${lines.join("\r\n")}\r\n\r\n`);
      onward.write(head);
      client.pipe(onward).pipe(client);
    });
    onward.on("error", () => client.destroy());
    client.on("error", () => onward.destroy());
  });
  await new Promise((ready) => server.listen(0, "127.0.0.1", ready));
  return { base: `http://127.0.0.1:${server.address().port}${prefix}`, close: () => { server.closeAllConnections(); server.close(); } };
}
