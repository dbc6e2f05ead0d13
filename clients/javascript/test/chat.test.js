// Streamed answers, from a model of this test.
import assert from "node:assert/strict";
import http from "node:http";
import { after, before, test } from "node:test";
import { Server, clientOf, sleep, until } from "./support.js";

let server;
let model;
let closed = 0;

/** A model with the API of OpenAI: it repeats the question word by word, and goes on for ever after `endless`. */
function answer(request, response) {
  let body = "";
  request.on("data", (data) => (body += data));
  request.on("end", async () => {
    const question = JSON.parse(body).messages.at(-1).content;
    if (question === "fail") return response.writeHead(500).end("{}");
    let open = true;
    response.on("close", () => {
      if (open) closed++;
      open = false;
    });
    response.writeHead(200, { "Content-Type": "text/event-stream" });
    const part = (content) => response.write(`data: ${JSON.stringify({ choices: [{ delta: { content } }] })}\n\n`);
    for (const word of question.split(" ")) {
      part(`${word} `);
      await sleep(20);
    }
    while (question.startsWith("endless") && open) {
      part("more ");
      await sleep(50);
    }
    open = false;
    response.end("data: [DONE]\n\n");
  });
}

before(async () => {
  model = http.createServer(answer);
  await new Promise((ready) => model.listen(0, "127.0.0.1", ready));
  server = await Server.start(`[chat]\nresponder = "openai"\nurl = "http://127.0.0.1:${model.address().port}/v1"\nmodel = "m"\nper_minute = 0\n`);
});
after(async () => {
  await server.remove();
  model.closeAllConnections();
  model.close();
});

test("answer_comes_in_parts_and_as_a_whole", async (t) => {
  const user = await server.user();
  const client = clientOf(t, server, user.token);
  const others = [];
  client.onMessage("chat_response", (frame) => others.push(frame));
  await client.connect();
  const chat = client.chat("one two three");
  const parts = [];
  for await (const part of chat) parts.push(part);
  assert.ok(parts.length >= 2, JSON.stringify(parts));
  assert.equal(parts.join("").trim(), "one two three");
  assert.equal((await chat.text()).trim(), "one two three");
  assert.equal(chat.cancelled, false);
  assert.equal(await chat.cancel(), false);
  assert.equal((await client.chat("without parts").text()).trim(), "without parts");
  assert.deepEqual(others, [], "the answer belongs to the caller");
});

test("answer_can_be_cancelled", async (t) => {
  const user = await server.user();
  const client = clientOf(t, server, user.token);
  await client.connect();
  const chat = client.chat("endless story");
  let count = 0;
  for await (const part of chat) {
    assert.equal(typeof part, "string");
    if (++count === 4) assert.equal(await chat.cancel(), true);
  }
  assert.ok(count >= 4);
  assert.equal(chat.cancelled, true);
  assert.match(await chat.text(), /^endless story/);
  await until(() => closed === 1, "the model's connection is closed");
  const left = client.chat("endless again");
  for await (const part of left) {
    assert.ok(part);
    break;
  }
  await until(() => left.cancelled);
  await until(() => closed === 2);
});

test("answer_that_fails_throws", async (t) => {
  const user = await server.user();
  const client = clientOf(t, server, user.token);
  await client.connect();
  await assert.rejects(client.chat("fail").text(), { code: "UPSTREAM_ERROR" });
  await assert.rejects(async () => { for await (const part of client.chat("fail")) assert.fail(part); }, { code: "UPSTREAM_ERROR" });
  const chat = client.chat("endless");
  const all = (async () => { for await (const part of chat) assert.ok(part); })();
  const failed = assert.rejects(all, { code: "disconnected" });
  await sleep(300);
  await client.disconnect();
  await failed;
  const queued = client.chat("never sent");
  assert.equal(await queued.cancel(), true);
  for await (const part of queued) assert.fail(part);
  assert.equal(queued.cancelled, true);
});
