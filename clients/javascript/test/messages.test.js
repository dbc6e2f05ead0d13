// Receiving: handlers, acknowledgements, repeats, gaps.
import assert from "node:assert/strict";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { Relay, Server, clientOf, collect, playedSocket, sleep, until } from "./support.js";

let server;
before(async () => (server = await Server.start("[limits]\nconnects_per_minute = 0\n[mailbox]\nmessages = 40\n[history]\nmessages = 5\n")));
after(() => server.remove());

const status = async (id) => (await server.call("GET", `/api/messages/${id}`)).status;

/** A message is acknowledged once the function that `register` is given has finished, and not before. */
async function isAcknowledgedAfter(user, client, register) {
  let finish;
  register(() => new Promise((done) => (finish = done)));
  await client.connect();
  const id = await server.push(user, 1);
  await until(() => finish);
  await sleep(700);
  assert.equal(await status(id), "sent");
  finish();
  await until(async () => (await status(id)) === "acked");
}

test("message_is_acknowledged_after_its_handler", async (t) => {
  const user = await server.user();
  const client = clientOf(t, server, user.token);
  await isAcknowledgedAfter(user, client, (handler) => client.onMessage("note", handler));

  const automatic = clientOf(t, server, user.token, { ack: "auto", client: "auto" });
  automatic.onMessage("note", () => new Promise(() => {}));
  await client.disconnect();
  await automatic.connect();
  const second = await server.push(user, 2);
  await until(async () => (await status(second)) === "acked");
});

test("handled_messages_are_acknowledged_before_a_clean_close", async (t) => {
  const user = await server.user();
  const client = clientOf(t, server, user.token);
  const notes = [];
  client.onMessage("note", ({ message }) => notes.push(message));
  await client.connect();
  const id = await server.push(user, 1);
  await until(() => notes.length);
  await client.disconnect();
  await until(async () => (await status(id)) === "acked");
});

test("handlers_run_in_order_and_a_bounded_number_at_a_time", async (t) => {
  for (const concurrency of [1, 3]) {
    const user = await server.user();
    const client = clientOf(t, server, user.token, { concurrency });
    const done = [];
    let running = 0;
    let most = 0;
    client.onMessage("note", async ({ message }) => {
      most = Math.max(most, ++running);
      await sleep(Math.random() * 20);
      running--;
      done.push(message);
      if (message === 3) throw new Error("a fault of a handler is no end");
    });
    const faults = collect(client, "error");
    const ids = [];
    for (let n = 0; n < 12; n++) ids.push(await server.push(user, n));
    await client.connect();
    await until(() => done.length === 12);
    assert.equal(most, concurrency);
    assert.deepEqual([...done].sort((a, b) => a - b), Array.from({ length: 12 }, (_, n) => n));
    if (concurrency === 1) assert.deepEqual(done, [...done].sort((a, b) => a - b));
    assert.equal(faults.length, 1);
    await until(async () => (await status(ids[11])) === "acked");
  }
});

test("acknowledgement_waits_for_the_lowest_handler", async (t) => {
  const user = await server.user();
  const client = clientOf(t, server, user.token, { concurrency: 4 });
  let finish;
  const done = [];
  client.onMessage("note", ({ message }) => (message === 0 ? new Promise((end) => (finish = end)) : done.push(message)));
  await client.connect();
  const ids = [];
  for (let n = 0; n < 3; n++) ids.push(await server.push(user, n));
  await until(() => done.length === 2);
  await sleep(500);
  assert.equal(await status(ids[2]), "sent");
  finish();
  await until(async () => (await status(ids[2])) === "acked");
});

test("repeats_are_dropped", async (t) => {
  const relay = await Relay.start(server.address);
  t.after(() => relay.close());
  const user = await server.user();
  const client = clientOf(t, relay, user.token);
  const notes = [];
  let finish;
  client.onMessage("note", ({ message }) => {
    notes.push(message);
    if (message === 3) return new Promise((done) => (finish = done));
  });
  await client.connect();
  const ids = [];
  for (let n = 1; n <= 4; n++) ids.push(await server.push(user, n));
  await until(() => finish);
  // Counted, since the client may be back between two looks at its state.
  const back = collect(client, "connected");
  for (let round = 1; round <= 3; round++) {
    relay.cut();
    await until(() => back.length === round);
    await sleep(50);
  }
  assert.deepEqual(notes, [1, 2, 3]);
  finish();
  await until(async () => (await status(ids[3])) === "acked");
  assert.deepEqual(notes, [1, 2, 3, 4]);
  // What was handled and not acknowledged comes again, and is acknowledged then.
  relay.passes = false;
  const last = await server.push(user, 5);
  relay.cut();
  relay.passes = true;
  await until(() => notes.length === 5);
  await until(async () => (await status(last)) === "acked");
  assert.deepEqual(notes, [1, 2, 3, 4, 5]);
});

test("request_inside_a_handler_is_answered", async (t) => {
  const user = await server.user();
  const client = clientOf(t, server, user.token);
  const cities = [];
  client.onMessage("note", async ({ message }) => {
    const { data } = await client.request("weather", { city: message });
    cities.push(data.city.name);
  });
  await client.connect();
  for (const city of ["北京", "上海", "广州"]) await server.push(user, city);
  await until(() => cities.length === 3);
  assert.deepEqual(cities, ["北京", "上海", "广州"]);
});

test("missed_messages_are_told", async (t) => {
  const user = await server.user();
  const slow = clientOf(t, server, user.token, { client: "slow" });
  await slow.connect();
  await slow.disconnect();
  const fast = clientOf(t, server, user.token, { client: "fast" });
  const notes = [];
  fast.onMessage("note", ({ message }) => notes.push(message));
  await fast.connect();
  for (let n = 0; n < 60; n++) {
    await server.push(user, n);
    await until(() => notes.length === n + 1);
    // The mailbox has room for 40.
    if (n % 20 === 19) await until(async () => (await server.call("GET", `/api/clients?user_id=${user.id}`)).find(({ name }) => name === "fast").waiting === 0);
  }
  const missed = collect(slow, "missed");
  const late = collect(slow, "message");
  await slow.connect();
  await until(() => missed.length && late.length);
  assert.ok(missed[0].count > 0 && missed[0].count <= 20, JSON.stringify(missed));
  await until(() => late.length + missed[0].count === 60, () => `${late.length} + ${missed[0].count}`);
  assert.equal(missed.length, 1);
});

test("missed_messages_are_told_anew_after_the_library_has_acknowledged", async (t) => {
  const WebSocket = playedSocket();
  const client = clientOf(t, server, "token", { WebSocket, ack: "auto", client: "auto" });
  const missed = collect(client, "missed");
  // The server tells of 3 until something is acknowledged, which the library does unseen; then of others.
  for (const [told, all] of [[3, 3], [3, 3], [0, 3], [2, 5], [3, 8]]) {
    const before = WebSocket.last;
    if (before) before.onclose?.({ code: 1006, reason: "" });
    else client.connect();
    WebSocket.missed = told;
    await until(() => WebSocket.last !== before && client.state === "connected");
    assert.equal(missed.reduce((sum, { count }) => sum + count, 0), all, JSON.stringify([told, missed]));
  }
});

test("other_epoch_discards_the_position", async (t) => {
  const own = await Server.start();
  t.after(() => own.remove());
  const client = clientOf(t, own, "", { ticket: false });
  client.token = async () => own.login("admin");
  const notes = [];
  const missed = collect(client, "missed");
  client.onMessage("note", ({ message }) => notes.push(message));
  await client.connect();
  const first = await own.push({ id: 1 }, "before");
  await until(() => notes.length === 1);
  await own.kill();
  await rm(join(own.dir, "data"), { recursive: true, force: true });
  await own.run();
  await until(() => client.state === "connected");
  own.admin = await own.login("admin");
  assert.ok((await own.push({ id: 1 }, "after")) <= first, "the ids begin anew");
  await until(() => notes.length === 2);
  assert.deepEqual(notes, ["before", "after"]);
  assert.deepEqual(missed, [{ count: null }]);
});

test("handler_may_be_added_and_listeners_removed", async (t) => {
  const user = await server.user();
  const client = clientOf(t, server, user.token);
  const seen = [];
  const stop = client.on("message", ({ message }) => seen.push(message));
  await client.connect();
  await server.push(user, 1);
  await until(() => seen.length === 1);
  stop();
  await server.push(user, 2);
  client.on("message", ({ message }) => seen.push(`late ${message}`));
  await server.push(user, 3, "live", { delivery: "live" });
  await until(() => seen.includes("late 3"));
  assert.ok(!seen.includes(2));
});

test("listener_of_messages_is_waited_for_like_a_handler", async (t) => {
  const user = await server.user();
  const client = clientOf(t, server, user.token);
  await isAcknowledgedAfter(user, client, (listener) => client.on("message", listener));
});

test("observer_takes_nothing", async (t) => {
  const user = await server.user();
  const id = await server.push(user, "for the reader");
  const observer = clientOf(t, server, user.token, { peek: true });
  const seen = collect(observer, "message");
  await observer.connect();
  await until(() => seen.some((frame) => frame.id === id));
  await sleep(700);
  await observer.disconnect();
  assert.equal(await status(id), "queued");
  assert.deepEqual(await server.call("GET", `/api/clients?user_id=${user.id}`), []);
});

test("message_is_acknowledged_after_the_store_has_its_position", async (t) => {
  const user = await server.user();
  const saves = [];
  const store = { load: () => null, save: (state) => new Promise((done) => saves.push({ state, done })) };
  const client = clientOf(t, server, user.token, { store });
  t.after(() => saves.forEach(({ done }) => done()));
  const notes = [];
  client.onMessage("note", ({ message }) => notes.push(message));
  await client.connect();
  const id = await server.push(user, 1);
  await until(() => notes.length && saves.some(({ state }) => state.id === id));
  await sleep(700);
  assert.equal(await status(id), "sent");
  store.save = () => {};
  saves.forEach(({ done }) => done());
  await until(async () => (await status(id)) === "acked");
});

test("replay_is_acknowledged_beyond_the_servers_window", async (t) => {
  const own = await Server.start("[limits]\nconnects_per_minute = 0\n");
  t.after(() => own.remove());
  const user = await own.user();
  const text = "x".repeat(100000);
  const first = clientOf(t, own, user.token);
  const seen = collect(first, "message");
  await first.connect();
  for (let n = 0; n < 15; n++) await own.push(user, text);
  await until(() => seen.length === 15);
  await first.disconnect();
  const again = clientOf(t, own, user.token, { since: 0 });
  const notes = [];
  again.onMessage("note", ({ id }) => notes.push(id));
  await again.connect();
  const last = await own.push(user, "after");
  await until(() => notes.includes(last));
  assert.equal(new Set(notes).size, 16);
});
