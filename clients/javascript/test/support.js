// The real server, a relay that can be cut, and helpers that the tests share.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import net from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import WebSocket from "ws";
import { DeviceWebSocketClient } from "qy-lty-client";

export const PASSWORD = "correct-horse-battery";
/** The binary under test: `QY_LTY` in the environment. */
export const BINARY = resolve(process.env.QY_LTY ?? "target/release/qy-lty");

const ENVIRONMENT = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("QY_LTY")));
ENVIRONMENT.QY_LTY_ADMIN_PASSWORD = PASSWORD;

export const sleep = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

/** Waits until a condition holds. The machine may be busy, so the limit is generous. */
export async function until(condition, what = condition.toString(), seconds = 40) {
  const end = Date.now() + seconds * 1000;
  for (;;) {
    const value = await condition();
    if (value) return value;
    assert.ok(Date.now() < end, `timed out: ${what}`);
    await sleep(15);
  }
}

/** A server in a directory of its own, which can be killed and started again at the same address. */
export class Server {
  static async start(config = "") {
    const server = new Server();
    server.dir = await mkdtemp(join(tmpdir(), "qy-lty-js-"));
    server.address = "127.0.0.1:0";
    server.config = config;
    server.names = 0;
    await server.run();
    server.admin = await server.login("admin");
    return server;
  }

  async run() {
    await writeFile(join(this.dir, "c.toml"), `[server]\nlisten = "${this.address}"\n${this.config}`);
    this.process = spawn(BINARY, ["serve", "--config", "c.toml"], { cwd: this.dir, env: ENVIRONMENT });
    this.address = await new Promise((found, failed) => {
      let log = "";
      this.process.stderr.on("data", (text) => {
        log += text;
        const at = /serving address=(\S+)/.exec(log);
        if (at) found(at[1]);
      });
      this.process.once("error", failed);
      this.process.once("exit", () => failed(new Error(log)));
    });
    this.base = `http://${this.address}`;
    this.ws = `ws://${this.address}`;
  }

  async kill(signal = "SIGKILL") {
    if (this.process.exitCode !== null || this.process.signalCode !== null) return;
    const ended = once(this.process, "exit");
    this.process.kill(signal);
    await ended;
  }

  async remove() {
    await this.kill();
    await rm(this.dir, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 });
  }

  async call(method, path, body, token = this.admin) {
    const headers = { ...(body !== undefined && { "Content-Type": "application/json" }), ...(token && { Authorization: `Token ${token}` }) };
    const response = await fetch(this.base + path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
    const answer = await response.json();
    assert.ok(response.ok, `${method} ${path}: ${response.status} ${answer.message}`);
    return answer.data;
  }

  async login(username, password = PASSWORD) {
    return (await this.call("POST", "/api/auth/login", { username, password }, null)).token;
  }

  /** A new user: `{id, username, token}`. */
  async user() {
    const username = `user${++this.names}`;
    const { id } = await this.call("POST", "/api/users", { username, password: PASSWORD });
    return { id, username, token: await this.login(username) };
  }

  /** Sends a message to a user; returns its id. */
  async push(user, message, type = "note", more = {}) {
    return (await this.call("POST", `/api/messages/user/${user.id}`, { type, message, ...more })).id;
  }
}

/** A client with the class of `ws` and short delays, which is closed at the end of the test. */
export function clientOf(t, server, token, options = {}) {
  const client = new DeviceWebSocketClient(token, server.ws, { WebSocket, backOff: { first: 0.05, most: 0.3 }, ...options });
  client.onError = () => {};
  t.after(() => client.disconnect());
  return client;
}

/** Everything that an event brings, from now on. */
export function collect(client, name) {
  const seen = [];
  client.on(name, (data) => seen.push(data));
  return seen;
}

/** A class of sockets that are greeted, with `missed` messages, and whose server the test plays; `last` is the newest one. */
export const playedSocket = () => class Played {
  static last;
  static missed;
  readyState = 0;
  bufferedAmount = 0;
  sent = [];
  constructor() {
    Played.last = this;
    setTimeout(() => {
      this.readyState = 1;
      this.onopen({});
      this.says({ type: "connection_status", epoch: "e", last_id: 0, pending: 0, missed: Played.missed });
    });
  }
  says(frame) { this.onmessage?.({ data: JSON.stringify(frame) }); }
  send(text) { this.sent.push(JSON.parse(text)); }
  close() { this.readyState = 3; this.onclose?.({ code: 1000, reason: "" }); }
};

/** A relay in front of a server, whose connections can be cut or stopped. */
export class Relay {
  static async start(address) {
    const relay = new Relay();
    const [host, port] = address.split(":");
    relay.sockets = new Set();
    relay.accepts = true;
    relay.passes = true;
    relay.count = 0;
    relay.server = net.createServer((near) => {
      if (!relay.accepts) return near.resetAndDestroy();
      relay.count++;
      const far = net.connect(Number(port), host);
      for (const [from, to] of [[near, far], [far, near]]) {
        relay.sockets.add(from);
        from.on("data", (data) => relay.passes && to.write(data));
        from.on("error", () => to.destroy());
        from.on("close", () => { relay.sockets.delete(from); to.destroy(); });
      }
    });
    await new Promise((ready) => relay.server.listen(0, "127.0.0.1", ready));
    relay.ws = `ws://127.0.0.1:${relay.server.address().port}`;
    return relay;
  }

  cut() {
    for (const socket of this.sockets) socket.resetAndDestroy();
  }

  async close() {
    this.cut();
    await new Promise((done) => this.server.close(done));
  }
}
