// Coming back, staying away, closing.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { once } from "node:events";
import http from "node:http";
import { after, before, test } from "node:test";
import { promisify } from "node:util";
import WebSocket, { WebSocketServer } from "ws";
import { DeviceWebSocketClient } from "qy-lty-client";
import { Relay, Server, clientOf, collect, playedSocket, until } from "./support.js";

let server;
before(async () => (server = await Server.start("[limits]\nconnects_per_minute = 0\nrefusals_per_minute = 0\n[mailbox]\nreaders = 1\n")));
after(() => server.remove());

/** A server of one kind of answer. */
async function fake(t, behave) {
  const web = http.createServer();
  const sockets = new WebSocketServer({ server: web, handleProtocols: () => "qy-lty.v1" });
  sockets.on("connection", behave);
  await new Promise((ready) => web.listen(0, "127.0.0.1", ready));
  t.after(() => {
    for (const socket of sockets.clients) socket.terminate();
    web.closeAllConnections();
    web.close();
  });
  return { ws: `ws://127.0.0.1:${web.address().port}`, web, sockets };
}

const hello = { type: "connection_status", status: "connected", user_id: "1", device_id: null, epoch: "e1", last_id: 0, pending: 0 };

test("client_comes_back_after_the_server_was_killed", async (t) => {
  const own = await Server.start();
  t.after(() => own.remove());
  const user = await own.user();
  const client = clientOf(t, own, user.token);
  const notes = [];
  client.onMessage("note", ({ message }) => notes.push(message));
  const recovered = collect(client, "recovered");
  assert.equal(await client.connect(), true);
  await own.push(user, 1);
  await until(() => notes.length === 1);
  await own.kill();
  await until(() => client.state !== "connected");
  await own.run();
  await own.push(user, 2);
  await until(() => notes.length === 2);
  assert.deepEqual(notes, [1, 2]);
  await until(() => recovered.length === 1);
});

test("delays_are_uniform_below_a_bound_that_doubles", async (t) => {
  const closed = await fake(t, (socket) => socket.terminate());
  const client = clientOf(t, closed, "token", { backOff: { first: 0.004, most: 0.032 } });
  const ends = collect(client, "disconnected");
  client.connect();
  await until(() => ends.length >= 120);
  const delays = ends.slice(0, 120).map(({ retryIn }) => retryIn);
  delays.forEach((delay, n) => assert.ok(delay >= 0 && delay <= Math.min(0.032, 0.004 * 2 ** n), `${n}: ${delay}`));
  const late = delays.slice(3);
  assert.ok(late.some((delay) => delay < 0.008) && late.some((delay) => delay > 0.024), "not spread over the whole range");
  const mean = late.reduce((sum, delay) => sum + delay) / late.length;
  assert.ok(mean > 0.011 && mean < 0.021, `mean ${mean}`);
  assert.ok(ends.every(({ willReconnect }) => willReconnect));
});

test("disconnect_advice_is_obeyed", async (t) => {
  let count = 0;
  const times = [];
  const advising = await fake(t, (socket) => {
    times.push(Date.now());
    socket.send(JSON.stringify(hello));
    if (++count === 1) {
      socket.send(JSON.stringify({ type: "disconnect", code: 4008, reason: "message rate limit exceeded", reconnect: true, retry_after: 1.2 }));
      socket.close(4008);
    } else {
      socket.send(JSON.stringify({ type: "disconnect", code: 4002, reason: "this user has no primary device", reconnect: false }));
      socket.terminate();
    }
  });
  const client = clientOf(t, advising, "token");
  const gone = collect(client, "gone");
  client.connect();
  await until(() => gone.length === 1);
  assert.ok(times[1] - times[0] >= 1200, `${times[1] - times[0]} ms`);
  assert.equal(gone[0].code, 4002, "the event tells the code where the close frame is lost");
  assert.equal(client.state, "gone");
});

test("rate_limit_of_the_server_is_obeyed_and_nothing_is_lost", async (t) => {
  const strict = await Server.start("[limits]\nmessages_per_minute = 60\n");
  t.after(() => strict.remove());
  const user = await strict.user();
  const client = clientOf(t, strict, user.token, { messagesPerMinute: 0 });
  const ends = collect(client, "disconnected");
  const sends = Array.from({ length: 64 }, (_, n) => client.sendMessage("sing", { song: `s${n}` }));
  client.connect();
  const outcomes = await Promise.all(sends.map(({ outcome }) => outcome));
  assert.deepEqual(outcomes.map(({ status, reply }) => (status === "answered" ? reply.data.song : status)), sends.map((_, n) => `s${n}`));
  assert.ok(ends.length >= 1 && ends.every(({ code }) => code === 4008), JSON.stringify(ends));
});

test("sends_keep_the_pace", async (t) => {
  const user = await server.user();
  const client = clientOf(t, server, user.token, { messagesPerMinute: 60 });
  await client.connect();
  const start = Date.now();
  const outcomes = await Promise.all(Array.from({ length: 63 }, () => client.requestSing("x").outcome));
  assert.ok(outcomes.every(({ status }) => status === "answered"));
  assert.ok(Date.now() - start > 1900, "sixty at once, then one a second");
});

test("wrong_token_keeps_the_client_away", async (t) => {
  const client = clientOf(t, server, "qlt_wrong");
  const gone = collect(client, "gone");
  assert.equal(await client.connect(), false);
  assert.equal(client.state, "gone");
  assert.equal(gone[0].code, 4001);
  assert.match(gone[0].meaning, /token/);
  const user = await server.user();
  client.token = user.token;
  assert.equal(await client.connect(), true, "another token and connect() are a new beginning");
});

test("refused_token_is_renewed_once", async (t) => {
  const user = await server.user();
  for (const ticket of [false, true]) {
    const tokens = ["qlt_old", user.token];
    const client = clientOf(t, server, async () => tokens.shift(), { ticket });
    assert.equal(await client.connect(), true);
    await client.disconnect(); // this server has room for one client
    let calls = 0;
    const hopeless = clientOf(t, server, async () => (calls++, "qlt_wrong"), { ticket });
    assert.equal(await hopeless.connect(), false);
    assert.equal(calls, 2);
  }
});

test("other_refusals_keep_the_client_away", async (t) => {
  const user = await server.user();
  const first = clientOf(t, server, user.token, { client: "phone" });
  assert.equal(await first.connect(), true);
  const second = clientOf(t, server, user.token, { client: "tablet" });
  const gone = collect(second, "gone");
  assert.equal(await second.connect(), false);
  assert.equal(gone[0].code, 4104);
  const wrongUser = await fake(t, (socket) => socket.close(4003));
  const third = clientOf(t, wrongUser, "token");
  assert.equal(await third.connect(), false);
});

test("retry_after_of_a_refused_handshake_is_obeyed", async (t) => {
  const times = [];
  const { ws, web, sockets } = await fake(t, (socket) => socket.send(JSON.stringify(hello)));
  sockets.options.verifyClient = (_info, done) => {
    times.push(Date.now());
    times.length === 1 ? done(false, 429, "slow down", { "Retry-After": "2" }) : done(true);
  };
  assert.ok(web.listening);
  const client = clientOf(t, { ws }, "token");
  const errors = collect(client, "error");
  assert.equal(await client.connect(), true);
  assert.ok(times[1] - times[0] >= 2000, `${times[1] - times[0]} ms`);
  assert.equal(errors[0].status, 429);
});

test("silent_connection_is_given_up", async (t) => {
  const relay = await Relay.start(server.address);
  t.after(() => relay.close());
  const user = await server.user();
  const client = clientOf(t, relay, user.token, { heartbeatSeconds: 1 });
  await client.connect();
  relay.passes = false;
  const ends = collect(client, "disconnected");
  await until(() => ends.length);
  assert.equal(ends[0].reason, "no answer to a ping");
  relay.cut();
  relay.passes = true;
  await until(() => client.state === "connected");
});

test("program_ends_after_disconnect", async () => {
  const user = await server.user();
  const program = `
    import WebSocket from "ws"; import { DeviceWebSocketClient } from "qy-lty-client";
    const client = new DeviceWebSocketClient("${user.token}", "${server.ws}/", { WebSocket });
    await client.connect(); client.sendMessage("ping"); client.request("weather").catch(() => {}); client.chat("x"); await client.disconnect();
    const away = new DeviceWebSocketClient("t", "ws://127.0.0.1:1", { WebSocket });
    away.connect(); away.sendMessage("weather", {}, { ttl: 100 }); await new Promise((later) => setTimeout(later, 300));
    const none = away.request("weather").catch((error) => console.log(error.code)); await away.disconnect(); await none;
    console.log("end", process.getActiveResourcesInfo().filter((name) => name === "Timeout").length);
  `;
  const run = promisify(execFile)(process.execPath, ["--input-type=module", "-e", program], { cwd: new URL(".", import.meta.url), timeout: 60_000 });
  assert.equal((await run).stdout, "closed\nend 0\n");
});

test("disconnect_ends_within_two_seconds_without_an_answer", async (t) => {
  const relay = await Relay.start(server.address);
  t.after(() => relay.close());
  const user = await server.user();
  const client = clientOf(t, relay, user.token);
  await client.connect();
  relay.passes = false;
  const start = Date.now();
  await client.disconnect();
  assert.ok(Date.now() - start < 10_000);
  assert.equal(client.state, "closed");
  relay.passes = true;
  assert.equal(await client.connect(), true);
  const closing = client.disconnect();
  const again = client.connect();
  await closing;
  assert.equal(await again, true, "connect() during a close is a new beginning");
});

test("disconnect_during_an_attempt_ends_it", async (t) => {
  const mute = await fake(t, () => {});
  const client = clientOf(t, mute, "token", { connectTimeout: 60 });
  const connecting = client.connect();
  await until(() => client.ws);
  await client.disconnect();
  assert.equal(await connecting, false);
  const never = new DeviceWebSocketClient(() => new Promise(() => {}), mute.ws, { WebSocket });
  const waiting = never.connect();
  await never.disconnect();
  assert.equal(await waiting, false);
  assert.equal(never.state, "closed");
});

test("attempt_without_a_first_event_ends_after_the_connect_timeout", async (t) => {
  const mute = await fake(t, () => {});
  const client = clientOf(t, mute, "token", { connectTimeout: 0.3 });
  const ends = collect(client, "disconnected");
  client.connect();
  await until(() => ends.length >= 2);
  assert.equal(ends[0].reason, "connect timeout");
  await once(mute.sockets, "connection");
});

test("late_reply_of_a_request_reaches_nobody", async (t) => {
  const slow = await fake(t, (socket) => {
    socket.send(JSON.stringify(hello));
    socket.on("message", (data) => {
      const { ref } = JSON.parse(data);
      setTimeout(() => socket.send(JSON.stringify({ type: "weather_response", data: {}, ref })), 400);
    });
  });
  const client = clientOf(t, slow, "token", { heartbeatSeconds: 0 });
  const others = collect(client, "message");
  await client.connect();
  await assert.rejects(client.request("weather", {}, { timeout: 0.1 }), { code: "timeout" });
  const plain = await client.requestWeather("x").outcome;
  assert.equal(plain.status, "answered");
  assert.deepEqual(others.map(({ ref }) => ref), [plain.reply.ref]);
});

test("close_codes_alone_keep_the_client_away", async (t) => {
  for (const code of [4001, 4003, 4104]) {
    const Played = playedSocket();
    const client = new DeviceWebSocketClient("t", "ws://played", { WebSocket: Played, ticket: false, backOff: { first: 0.01, most: 0.01 } });
    t.after(() => client.disconnect());
    const gone = collect(client, "gone");
    await client.connect();
    Played.last.onclose({ code, reason: "" });
    await until(() => gone.length, "gone", 10);
    assert.deepEqual([gone[0].code, client.state], [code, "gone"]);
  }
});
