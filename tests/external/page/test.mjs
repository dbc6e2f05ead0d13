// test.mjs BINARY CHROMIUM [SCREENSHOTS]: the page in a real browser, against the real program.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import http from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import puppeteer from "puppeteer-core";

const [binary, chromium, screenshots] = process.argv.slice(2);
const PASSWORD = "correct-horse-battery";
const SCRIPT = `<script>document.title="owned"</script><img src=x onerror="document.title='owned'">`;

const dir = await mkdtemp(join(tmpdir(), "qy-lty-page-"));
await writeFile(join(dir, "c.toml"), `[server]\nlisten = "127.0.0.1:0"\ntrusted_proxies = ["127.0.0.1"]\n`);
const server = spawn(binary, ["serve", "--config", "c.toml"], { cwd: dir, env: { ...process.env, QY_LTY_ADMIN_PASSWORD: PASSWORD } });
const address = await new Promise((found, lost) => {
  let log = "";
  server.stderr.on("data", (text) => {
    log += text;
    const at = /serving address=(\S+)/.exec(log);
    if (at) found(at[1]);
  });
  server.on("exit", () => lost(new Error(log)));
});
const base = `http://${address}`;

const call = async (path, body) => {
  const response = await fetch(base + path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
  return { status: response.status, ...(await response.json()) };
};

// A reverse proxy that takes a path away, and says so where asked to.
const proxy = async (prefix, says) => {
  const server = http.createServer((request, response) => {
    if (request.url !== prefix && !request.url.startsWith(`${prefix}/`)) return response.writeHead(404).end();
    const [host, port] = address.split(":");
    const headers = says ? { ...request.headers, "x-forwarded-prefix": prefix } : request.headers;
    const path = request.url.slice(prefix.length) || "/";
    const onward = http.request({ host, port, method: request.method, path, headers }, (answer) => {
      response.writeHead(answer.statusCode, answer.rawHeaders);
      answer.pipe(response);
    });
    onward.on("error", () => response.destroy());
    request.pipe(onward);
  });
  await new Promise((ready) => server.listen(0, "127.0.0.1", ready));
  return { server, base: `http://127.0.0.1:${server.address().port}${prefix}` };
};

const browser = await puppeteer.launch({ executablePath: chromium, args: ["--no-sandbox", "--lang=en-US"] });
let failed = 0;
try {
  const page = await browser.newPage();
  await page.setViewport({ width: 800, height: 1000 });
  const complaints = [];
  page.on("console", (message) => { if (message.type() === "error") complaints.push(message.text()); });
  page.on("pageerror", (error) => complaints.push(String(error)));
  const shot = async (name) => { if (screenshots) await page.screenshot({ path: join(screenshots, `${name}.png`), fullPage: true }); };
  const shown = (selector, text) => page.waitForFunction(
    (s, t) => [...document.querySelectorAll(s)].some((node) => node.checkVisibility() && node.textContent.includes(t)), { timeout: 10_000 }, selector, text);

  await page.goto(base);
  await page.waitForSelector("#login-form input", { visible: true });
  await shot("login");
  await page.type("[name=username]", "admin");
  await page.type("[name=password]", "wrong-password");
  await page.click("#login-form button");
  await shown("#notice", "Wrong user name or password");
  await page.$eval("[name=password]", (input) => { input.value = ""; });
  await page.type("[name=password]", PASSWORD);
  await page.click("#login-form button");
  await shown("#who", "admin");
  await shown("#none", "No device yet");
  assert.equal(await page.evaluate(() => document.cookie), "", "scripts see no cookie");

  const begun = (await call("/api/devices/pair", { name: SCRIPT, serial: "S-1", model: "lamp" })).data;
  await page.type("[name=code]", "222222");
  await page.click("#claim-form button");
  await shown("#notice", "no such code");
  await page.$eval("[name=code]", (input) => { input.value = ""; });
  await page.type("[name=code]", `${begun.code.slice(0, 3)}-${begun.code.slice(3)}`.toLowerCase());
  await page.click("[name=primary]");
  await page.click("#claim-form button");
  await shown("#notice", "The device is yours");
  await shown("#devices .name", SCRIPT);
  await shown("#devices .about", "main device");
  assert.equal(await page.title(), "qy-lty", "a name is text");
  const paired = (await call("/api/devices/pair", { device_code: begun.device_code })).data;
  assert.equal(paired.state, "paired");

  // The device goes online, here from a page of its own.
  const device = await browser.newPage();
  await device.goto(base);
  await device.evaluate((url) => new Promise((open) => { window.socket = new WebSocket(url); window.socket.onmessage = open; }),
    `ws://${address}/ws/device/?token=${paired.token}`);
  await page.bringToFront();
  await page.reload(); // the cookie remembers
  await shown("#devices .about", "online");
  await shot("home");
  await device.close();

  await page.click("#devices .bad");
  await shown("#devices .bad", "Remove for good?");
  await page.click("#devices .bad");
  await shown("#none", "No device yet");
  await page.type("[name=current_password]", "wrong-password");
  await page.type("[name=new_password]", "another-good-one");
  await page.click("#password-form button");
  await shown("#notice", "Wrong user name or password");
  await page.$$eval("#password-form input", (inputs) => inputs.forEach((input) => { input.value = ""; }));
  await page.type("[name=current_password]", PASSWORD);
  await page.type("[name=new_password]", "another-good-one");
  await page.click("#password-form button");
  await shown("#notice", "password has been changed");
  await page.click("#logout");
  await page.waitForSelector("#login-form input", { visible: true });
  await page.reload();
  await page.waitForSelector("#login-form input", { visible: true });

  // Below a path that a proxy takes away: with a slash, and, where the proxy names the path, without one.
  for (const [prefix, says, end] of [["/qy", false, "/"], ["/home/qy", true, ""], ["/home/qy", true, "/"]]) {
    const { server: front, base: below } = await proxy(prefix, says);
    await page.goto(below + end);
    await page.waitForSelector("#login-form input", { visible: true });
    await page.type("[name=username]", "admin");
    await page.type("[name=password]", "another-good-one");
    await page.click("#login-form button");
    await shown("#who", "admin");
    await shown("#none", "No device yet");
    await page.click("#logout");
    await page.waitForSelector("#login-form input", { visible: true });
    front.closeAllConnections();
    front.close();
  }

  // Only the answers that were asked for: two wrong tries, and 401 where nobody is logged in.
  const unexpected = complaints.filter((text) => !/status of 40[14]/.test(text));
  assert.deepEqual(unexpected, []);
} catch (error) {
  failed = 1;
  console.error(error);
} finally {
  await browser.close();
  server.removeAllListeners("exit");
  server.kill();
  await rm(dir, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 });
}
console.log(`page: ${1 - failed} passed, ${failed} failed`);
process.exit(failed);
