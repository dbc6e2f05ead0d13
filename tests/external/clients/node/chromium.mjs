// The client in headless Chromium, on a page of the server. The page reports over the DevTools protocol. The profile stays in
// CLIENT_DIR.
import { spawn } from "node:child_process";
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import WebSocket from "ws";
import { makeTake, options, report } from "./reader.mjs";

const profile = mkdtempSync(join(process.env.CLIENT_DIR ?? tmpdir(), "chromium-"));
const browser = spawn("chromium", [
  "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-extensions",
  "--disable-background-networking", "--remote-debugging-port=0", `--user-data-dir=${profile}`, "about:blank",
], { stdio: ["ignore", "ignore", "pipe"] });
process.on("exit", () => browser.kill("SIGKILL"));

const endpoint = await new Promise((found, lost) => {
  let log = "";
  browser.stderr.on("data", (text) => {
    log += text;
    const at = /DevTools listening on (\S+)/.exec(log);
    if (at) found(at[1]);
  });
  browser.on("exit", () => lost(new Error(log)));
});
const devtools = new WebSocket(endpoint);
await new Promise((open) => devtools.on("open", open));

const waiting = new Map();
const loaded = new Promise((done) => waiting.set("Page.loadEventFired", done));
const ended = new Promise((done) => waiting.set("end", done));
devtools.on("message", (text) => {
  const { id, method, params, result, error } = JSON.parse(text);
  if (error) throw new Error(error.message);
  if (method === "Runtime.bindingCalled") {
    report(params.payload);
    const [word] = params.payload.split(" ");
    if (word === "closed") waiting.get("end")();
    // Only now, as this program may be killed between the page and here.
    if (word === "id" && options.url.includes("ack=client")) call("Runtime.evaluate", { expression: "acknowledge()" }, sessionId);
  }
  waiting.get(id ?? method)?.(result);
});
let last = 0;
const call = (method, params = {}, sessionId = undefined) => new Promise((done) => {
  last += 1;
  waiting.set(last, done);
  devtools.send(JSON.stringify({ id: last, method, params, sessionId }));
});

const { targetInfos } = await call("Target.getTargets");
const { targetId } = targetInfos.find(({ type }) => type === "page");
const { sessionId } = await call("Target.attachToTarget", { targetId, flatten: true });
await call("Page.enable", {}, sessionId);
await call("Runtime.enable", {}, sessionId);
await call("Runtime.addBinding", { name: "tell" }, sessionId);
await call("Page.navigate", { url: `http://${new URL(options.url).host}/` }, sessionId);
await loaded;

function client(options, makeTake) {
  const report = (...words) => globalThis.tell(words.join(" "));
  const sleep = (ms) => { for (const end = performance.now() + ms; performance.now() < end;); };
  const take = makeTake(options, report, sleep);
  const socket = new globalThis.WebSocket(options.url);
  let closing = false;
  const handle = (data) => {
    if (!closing && take(data)) {
      closing = true;
      socket.close(1000);
    }
  };
  // One message after the other, each with its acknowledgement.
  const acknowledge = async (data) => {
    const { id } = JSON.parse(data);
    const acknowledged = id && new Promise((done) => {
      globalThis.acknowledge = () => {
        socket.send(JSON.stringify({ type: "ack", message: { id } }));
        done();
      };
    });
    handle(data);
    await acknowledged;
  };
  let work = Promise.resolve();
  const queue = (data) => { work = work.then(() => acknowledge(data)); };
  socket.onmessage = ({ data }) => (options.url.includes("ack=client") ? queue : handle)(data);
  socket.onclose = ({ code }) => report("closed", code);
}
await call("Runtime.evaluate", { expression: `(${client})(${JSON.stringify(options)}, ${makeTake})` }, sessionId);
await ended;
process.exit();
