// Sends: the queue, outcomes, requests, persistence.
import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { DeviceWebSocketClient, RequestError } from "qy-lty-client";
import { fileStore } from "qy-lty-client/file";
import { Relay, Server, clientOf, collect, playedSocket, sleep, until } from "./support.js";

let server;
before(async () => (server = await Server.start("[limits]\nconnects_per_minute = 0\n")));
after(() => server.remove());

/** A store like `localStorage`. */
function webStorage() {
  const map = new Map();
  return { map, getItem: (key) => map.get(key) ?? null, setItem: (key, value) => void map.set(key, String(value)) };
}

test("sends_wait_for_the_connection_and_end_in_order", async (t) => {
  const user = await server.user();
  const client = clientOf(t, server, user.token, { queueLimit: 3 });
  const answers = [];
  client.onMessage("sing_response", ({ data }) => answers.push(data.song));
  const sends = ["a", "b", "c", "d"].map((song) => client.requestSing(song));
  assert.deepEqual(sends.map(({ status }) => status), ["queued", "queued", "queued", "dropped"]);
  assert.deepEqual(await sends[3].outcome, { status: "dropped", reason: "full" });
  await client.connect();
  const outcomes = await Promise.all(sends.slice(0, 3).map(({ outcome }) => outcome));
  assert.deepEqual(outcomes.map(({ status }) => status), ["answered", "answered", "answered"]);
  assert.equal(outcomes[0].reply.ref, sends[0].ref);
  assert.deepEqual(answers, ["a", "b", "c"]);
});

test("refused_send_has_the_code_of_the_server", async (t) => {
  const user = await server.user();
  const client = clientOf(t, server, user.token);
  await client.connect();
  const outcome = await client.sendMessage("no_such_type", {}).outcome;
  assert.equal(outcome.status, "dropped");
  assert.equal(outcome.reason, "refused");
  assert.equal(outcome.code, "UNSUPPORTED_TYPE");
  const long = await client.sendChatMessage("x".repeat(11_000)).outcome;
  assert.equal(long.code, "MESSAGE_TOO_LARGE");
  const ends = collect(client, "disconnected");
  const huge = client.sendMessage("chat_message", "y".repeat(80_000), { retry: true });
  assert.deepEqual(await huge.outcome, { status: "dropped", reason: "refused", code: "1009", message: "message too big" });
  await until(() => client.state === "connected");
  assert.equal(ends.length, 1, "it is not sent again");
});

test("send_that_is_too_old_is_dropped", async (t) => {
  const user = await server.user();
  const client = clientOf(t, server, user.token);
  const old = client.sendMessage("weather", {}, { ttl: 0.1 });
  const lasting = client.sendMessage("weather", {}, { ttl: 60 });
  assert.deepEqual(await old.outcome, { status: "dropped", reason: "expired" });
  await client.connect();
  assert.equal((await lasting.outcome).status, "answered");
  const left = clientOf(t, server, user.token);
  const waiting = left.sendMessage("weather", {});
  await left.disconnect();
  assert.deepEqual(await waiting.outcome, { status: "dropped", reason: "closed", stored: false });
});

test("request_rejects_with_code_timeout_and_disconnect", async (t) => {
  const relay = await Relay.start(server.address);
  t.after(() => relay.close());
  const user = await server.user();
  const client = clientOf(t, relay, user.token);
  await client.connect();
  assert.equal((await client.request("weather", { city: "广州" })).data.city.name, "广州");
  await assert.rejects(client.request("sing", { song: 7 }), (error) => error instanceof RequestError && error.code === "VALIDATION_ERROR");
  relay.passes = false;
  await assert.rejects(client.request("weather", {}, { timeout: 0.2 }), { code: "timeout" });
  const lost = client.request("weather");
  const plain = client.sendMessage("weather", {});
  const again = client.request("weather", { city: "深圳" }, { retry: true });
  const sendAgain = client.sendMessage("weather", { city: "厦门" }, { retry: true });
  await sleep(100);
  relay.cut();
  relay.passes = true;
  await assert.rejects(lost, { code: "disconnected" });
  assert.deepEqual(await plain.outcome, { status: "sent", reason: "disconnected" });
  assert.equal((await again).data.city.name, "深圳");
  assert.equal((await sendAgain.outcome).reply.data.city.name, "厦门");
});

test("written_send_without_an_answer_is_sent", async (t) => {
  const relay = await Relay.start(server.address);
  t.after(() => relay.close());
  const user = await server.user();
  const client = clientOf(t, relay, user.token, { requestTimeout: 0.2 });
  await client.connect();
  relay.passes = false;
  assert.deepEqual(await client.requestWeather("x").outcome, { status: "sent", reason: "unanswered" });
  assert.throws(() => clientOf(t, server, user.token, { client: "a b" }), /1 to 64/);
});

test("offline_request_times_out_in_the_queue", async (t) => {
  const client = clientOf(t, { ws: "ws://127.0.0.1:1" }, "token");
  client.connect();
  await assert.rejects(client.request("weather", {}, { timeout: 0.2 }), { code: "timeout" });
});

test("queue_and_position_survive_in_web_storage", async (t) => {
  const user = await server.user();
  const storage = webStorage();
  const options = { store: storage, client: "page" };
  const first = clientOf(t, server, user.token, options);
  const handled = [];
  first.onMessage("note", ({ message }) => handled.push(message));
  await first.connect();
  await server.push(user, 1);
  await until(() => handled.length === 1);
  await first.disconnect();
  const stored = first.sendMessage("sing", { song: "kept" });
  first.sendMessage("sing", { song: "old" }, { ttl: 0.001 });
  assert.equal(first.request("weather").catch(() => {}) instanceof Promise, true);
  assert.equal(JSON.parse(storage.map.get("qy-lty:page")).queue.length >= 1, true);
  await first.disconnect();
  assert.deepEqual(await stored.outcome, { status: "dropped", reason: "closed", stored: true });

  const second = clientOf(t, server, user.token, { ...options, since: 0 });
  const songs = [];
  const again = [];
  second.onMessage("sing_response", ({ data }) => songs.push(data.song));
  second.onMessage("note", ({ message }) => again.push(message));
  await second.connect();
  await until(() => songs.length);
  assert.equal(JSON.parse(storage.map.get("qy-lty:page")).queue.length, 0);
  await server.push(user, 2);
  await until(() => again.length);
  assert.deepEqual(songs, ["kept"]);
  assert.deepEqual(again, [2], "the first message is not handled again");
});

test("store_may_be_a_file_or_asynchronous", async (t) => {
  const directory = await mkdtemp(join(tmpdir(), "qy-lty-js-"));
  t.after(() => rm(directory, { recursive: true }));
  const user = await server.user();
  const file = fileStore(join(directory, "state.json"));
  const first = clientOf(t, server, user.token, { store: file });
  first.sendMessage("sing", { song: "x" });
  await first.disconnect();
  const slow = {
    load: async () => (await sleep(30), file.load()),
    save: async (state) => (await sleep(5), file.save(state)),
  };
  const second = clientOf(t, server, user.token, { store: slow });
  const songs = [];
  const notes = [];
  second.onMessage("sing_response", ({ data }) => songs.push(data.song));
  second.onMessage("note", ({ message }) => notes.push(message));
  second.requestSing("y");
  await second.connect();
  const ids = [];
  for (let n = 0; n < 5; n++) ids.push(await server.push(user, n));
  await until(() => songs.length === 2 && notes.length === 5);
  assert.deepEqual(songs, ["x", "y"]);
  await second.disconnect();
  assert.deepEqual(file.load().id, ids[4]);
  assert.deepEqual(file.load().queue, []);
});

test("store_that_fails_does_not_stop_the_client", async (t) => {
  const user = await server.user();
  const errors = [];
  const client = clientOf(t, server, user.token, { store: { load: () => { throw new Error("no disk"); }, save: async () => { throw new Error("full"); } } });
  client.on("error", (error) => errors.push(error.message));
  await client.connect();
  const notes = [];
  client.onMessage("note", ({ message }) => notes.push(message));
  const id = await server.push(user, 1);
  await until(async () => notes.length && (await server.call("GET", `/api/messages/${id}`)).status === "acked");
  assert.ok(errors.includes("full"));
});

test("damaged_file_is_told_and_put_aside", async (t) => {
  const directory = await mkdtemp(join(tmpdir(), "qy-lty-js-"));
  t.after(() => rm(directory, { recursive: true }));
  const user = await server.user();
  const path = join(directory, "state.json");
  for (const text of ["", "{\"epoch\": \"e\", \"id\"", "\u0000\u0000"]) {
    await writeFile(path, text);
    const client = clientOf(t, server, user.token, { store: fileStore(path), client: "reader" });
    const errors = collect(client, "error");
    assert.equal(await client.connect(), true, "a client without a position");
    assert.ok(errors[0] instanceof SyntaxError, String(errors[0]));
    assert.equal(await readFile(`${path}.damaged`, "utf8"), text);
    const id = await server.push(user, text);
    await until(() => fileStore(path).load()?.id === id, "the next state takes its place");
    await client.disconnect();
  }
});

test("reply_that_comes_too_late_reaches_nobody", async (t) => {
  const Played = playedSocket();
  const client = new DeviceWebSocketClient("t", "ws://played", { WebSocket: Played, ticket: false });
  t.after(() => client.disconnect());
  const seen = collect(client, "message");
  await client.connect();
  await assert.rejects(client.request("weather", {}, { timeout: 0.05 }), { code: "timeout" });
  const [{ ref }] = Played.last.sent;
  Played.last.says({ type: "weather_response", ref });
  Played.last.says({ type: "weather_response", ref: "another" });
  await until(() => seen.length);
  assert.deepEqual(seen.map((frame) => frame.ref), ["another"]);
});

test("sends_that_the_store_keeps_are_sent_by_the_next_connection_of_the_same_client", async (t) => {
  const Played = playedSocket();
  const states = [];
  const store = { load: () => null, save: async (state) => { await sleep(30); states.push(state); } };
  const client = new DeviceWebSocketClient("t", "ws://played", { WebSocket: Played, ticket: false, store });
  const send = client.sendMessage("note", 1);
  await client.disconnect();
  assert.deepEqual(await send.outcome, { status: "dropped", reason: "closed", stored: true });
  assert.equal(states.at(-1).queue.length, 1);
  t.after(() => client.disconnect());
  await client.connect();
  await until(() => Played.last.sent.some(({ ref }) => ref === send.ref));
});

test("connect_before_the_end_of_disconnect_connects_again", async (t) => {
  const Played = playedSocket();
  const client = new DeviceWebSocketClient("t", "ws://played", { WebSocket: Played, ticket: false });
  t.after(() => client.disconnect());
  await client.connect();
  const closing = client.disconnect();
  assert.equal(await client.connect(), true);
  await closing;
  assert.equal(client.state, "connected");
});

test("sends_of_a_client_that_stays_away_end", async (t) => {
  const Played = playedSocket();
  const client = new DeviceWebSocketClient("t", "ws://played", { WebSocket: Played, ticket: false });
  t.after(() => client.disconnect());
  await client.connect();
  Played.last.onclose({ code: 4104, reason: "" });
  assert.deepEqual(await client.sendMessage("note").outcome, { status: "dropped", reason: "closed", stored: false });
});

test("only_what_is_too_big_is_refused_with_its_close", async (t) => {
  const Played = playedSocket();
  const client = new DeviceWebSocketClient("t", "ws://played", { WebSocket: Played, ticket: false, backOff: { first: 0.01, most: 0.01 } });
  t.after(() => client.disconnect());
  await client.connect();
  const [small, big] = [client.sendMessage("note", 1, { retry: true }), client.sendMessage("note", "x".repeat(70000), { retry: true })];
  const first = Played.last;
  first.onclose({ code: 1009, reason: "" });
  assert.equal((await big.outcome).reason, "refused");
  await until(() => Played.last !== first && Played.last.sent.some(({ ref }) => ref === small.ref));
});
