// The page of the server: log in, claim a device by the code it shows, see one's devices. It speaks the documented REST API.
// What comes from the server is only ever shown as text, never as markup. It opens no WebSocket: a connection of the user
// would receive, and so use up, messages that wait for the user's own programs.

const words = {
  en: {
    login: "Log in", logout: "Log out", username: "User name", password: "Password", newPassword: "New password",
    changePassword: "Change password", account: "Account", claim: "Add a device", code: "The code that the device shows",
    name: "Name (optional)", makePrimary: "My main device", claimIt: "Add", devices: "My devices", allDevices: "All devices",
    none: "No device yet. Switch one on and type in the code that it shows.", more: "More", remove: "Remove",
    reallyRemove: "Remove for good?", primary: "main device", setPrimary: "Make main", online: "online", never: "never seen",
    seen: "seen", claimed: "The device is yours. It goes online by itself.", changed: "The password has been changed. Every other log-in has ended.",
    wrongCode: "There is no such code. A code has six characters and changes after ten minutes or a few wrong attempts.",
    wrongPassword: "Wrong user name or password.", wait: "Too many attempts. Try again in", seconds: "seconds.", unreachable: "The server can't be reached.",
    wrongLink: "This link is not valid any more: it is good once, for ten minutes. Make another: qy-lty link",
    taken: "Somebody else has this device.", full: "Device limit reached.",
    elevate: "You logged in some time ago. Please enter your password again.", goOn: "Continue", cancel: "Cancel", wrongOwnPassword: "Wrong password.",
  },
  zh: {
    login: "登录", logout: "退出", username: "用户名", password: "密码", newPassword: "新密码",
    changePassword: "修改密码", account: "账户", claim: "添加设备", code: "设备上显示的配对码",
    name: "名称（可选）", makePrimary: "设为主设备", claimIt: "添加", devices: "我的设备", allDevices: "所有设备",
    none: "还没有设备。请打开设备，然后输入它显示的配对码。", more: "更多", remove: "移除",
    reallyRemove: "确定移除？", primary: "主设备", setPrimary: "设为主设备", online: "在线", never: "从未上线",
    seen: "上次在线", claimed: "设备已归您所有，稍后会自动上线。", changed: "密码已修改，其他登录均已失效。",
    wrongCode: "配对码不存在。配对码共六个字符，十分钟后或多次输错后会更换。",
    wrongPassword: "用户名或密码错误。", wait: "尝试次数过多，请等待", seconds: "秒。", unreachable: "无法连接服务器。",
    wrongLink: "链接已失效：每个链接只能使用一次，十分钟内有效。请运行 qy-lty link 获取新链接。",
    taken: "该设备属于其他用户。", full: "您的设备数量已达上限。",
    elevate: "您已登录一段时间，请再次输入密码。", goOn: "继续", cancel: "取消", wrongOwnPassword: "密码错误。",
  },
};
const language = navigator.language.startsWith("zh") ? "zh" : "en";
const t = (key) => words[language][key];
const $ = (id) => document.getElementById(id);
const REFRESH_MS = 10_000;
// The page's own place: behind a reverse proxy it may have a path in front, of which the server does not know.
const ROOT = new URL("..", import.meta.url);

let csrf = "";
let me = null;

class Refused extends Error {
  constructor(status, answer) {
    super(answer.message);
    Object.assign(this, { status, code: answer.code, wait: answer.retry_after });
  }
}

// Somebody was asked for the password again and did not enter it.
class Cancelled extends Error {}

// Asks for the password until it is right; one time for all who need it at once.
let asking = null;
function elevate() {
  const [dialog, form, hint] = [$("elevate"), $("elevate-form"), $("elevate-notice")];
  asking ??= new Promise((done, cancelled) => {
    hint.hidden = true;
    form.onsubmit = async (event) => {
      event.preventDefault();
      const [password, go] = [new FormData(form).get("password"), form.querySelector("button:not([type])")];
      form.reset();
      go.disabled = true;
      try {
        await call("POST", "/api/auth/elevate", { password });
        done();
        dialog.close();
      } catch (error) {
        if (error.code === "unauthorized" || error.code === "csrf") { // the log-in has ended, or is another one
          cancelled(error);
          dialog.close();
        }
        hint.textContent = error.code === "wrong_password" ? t("wrongOwnPassword") : explain(error);
        hint.hidden = false;
        form.elements.password.focus();
      } finally {
        go.disabled = false;
      }
    };
    $("elevate-cancel").onclick = () => dialog.close();
    dialog.onclose = () => { form.reset(); cancelled(new Cancelled()); }; // also by Escape; nothing where it is done
    dialog.showModal();
  }).finally(() => { asking = null; });
  return asking;
}

async function api(method, path, body) {
  try {
    return await call(method, path, body);
  } catch (error) {
    if (error.code !== "elevation_required") throw error;
  }
  await elevate();
  return call(method, path, body);
}

async function call(method, path, body) {
  const headers = { "X-CSRF-Token": csrf };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const response = await fetch(new URL(path.slice(1), ROOT), { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  const answer = await response.json();
  if (!response.ok) throw new Refused(response.status, answer);
  return answer;
}

function notice(text, bad = false) {
  $("notice").textContent = text;
  $("notice").hidden = !text;
  $("notice").classList.toggle("bad", bad);
}

function explain(error, notFound) {
  if (!(error instanceof Refused)) return t("unreachable");
  if (error.status === 404 && notFound) return t(notFound);
  const known = { wrong_password: "wrongPassword", wrong_link: "wrongLink", taken: "taken", limit_reached: "full" }[error.code];
  if (known) return t(known);
  return error.status === 429 ? `${t("wait")} ${error.wait} ${t("seconds")}` : error.message;
}

// Runs what a button or a form asks for; no second time while it is under way.
async function act(form, work, notFound) {
  const buttons = form.matches("button") ? [form] : [...form.querySelectorAll("button")];
  buttons.forEach((button) => { button.disabled = true; });
  notice("");
  try {
    await work();
  } catch (error) {
    if (error instanceof Cancelled) return;
    if (error.code === "unauthorized" && me) return show(null);
    if (error.code === "csrf") return start(); // another tab has logged in anew
    notice(explain(error, notFound), true);
  } finally {
    buttons.forEach((button) => { button.disabled = false; });
  }
}

function onSubmit(id, work, notFound) {
  $(id).addEventListener("submit", (event) => {
    event.preventDefault();
    act(event.target, () => work(event.target, new FormData(event.target)), notFound);
  });
}

function element(tag, name, text) {
  const made = document.createElement(tag);
  made.className = name;
  made.textContent = text ?? "";
  return made;
}

// Each in a box of its own, so that none of them can turn the reading direction of the others.
function facts(texts) {
  const line = element("span", "about");
  texts.forEach((text, n) => line.append(n ? " · " : "", Object.assign(document.createElement("bdi"), { textContent: text })));
  return line;
}

function button(text, name, work) {
  const made = element("button", `quiet ${name}`, text);
  made.type = "button";
  made.addEventListener("click", () => act(made, work));
  return made;
}

function when(device) {
  if (device.online) return t("online");
  return device.last_seen ? `${t("seen")} ${new Date(device.last_seen).toLocaleString(language)}` : t("never");
}

function item(device) {
  const row = element("li", "");
  const acts = element("div", "acts");
  const own = device.user_ids.includes(me.id);
  if (own && !device.primary) {
    acts.append(button(t("setPrimary"), "", async () => { await api("PUT", `/api/devices/${device.id}/primary`, {}); await refresh(); }));
  }
  const remove = button(t("remove"), "bad", async () => {
    if (!remove.dataset.sure) {
      remove.dataset.sure = "yes";
      remove.textContent = t("reallyRemove");
      return;
    }
    await api("DELETE", `/api/devices/${device.id}`);
    await refresh();
  });
  acts.append(remove);
  const about = [when(device), device.primary && t("primary"), device.model, device.serial, `#${device.id}`];
  row.append(
    element("span", device.online ? "dot on" : "dot"),
    element("span", "name", device.name),
    acts,
    facts(about.filter(Boolean)),
  );
  return row;
}

let pages = 1;

async function refresh() {
  const found = [];
  let after = 0;
  let more;
  for (let page = 0; page < pages; page += 1) {
    const answer = await api("GET", `/api/devices?limit=50&after=${after}`);
    found.push(...answer.data);
    after = more = answer.next;
    if (!more) break;
  }
  $("devices").replaceChildren(...found.map(item));
  $("none").hidden = found.length > 0;
  $("more").hidden = !more;
}

async function show(user) {
  me = user;
  $("login").hidden = !!me;
  $("home").hidden = $("who").hidden = $("logout").hidden = !me;
  $("who").textContent = me ? me.username : "";
  if (!me) {
    csrf = "";
    $("devices").replaceChildren();
    $("login-form").elements.username.focus();
    return;
  }
  document.querySelector('[data-t="devices"]').textContent = t(me.role === "admin" ? "allDevices" : "devices");
  await refresh();
}

// Shows the list as it is now, unless somebody is about to press one of its buttons.
function follow() {
  if (!me || document.hidden || $("devices").querySelector("[data-sure], :disabled, :focus")) return;
  refresh().catch((error) => { if (error.code === "unauthorized") show(null); });
}

// Finds out who is logged in, if anybody is.
async function start() {
  try {
    const { data } = await api("GET", "/api/auth/me");
    csrf = data.csrf ?? "";
    await show(data);
  } catch (error) {
    if (error.code !== "unauthorized") notice(explain(error), true);
    await show(null);
  }
}

// Logs in with the code of a one-time link, which is in the fragment: browsers send that to nobody. It does not stay in the history.
async function followLink() {
  const code = location.hash.startsWith("#link=") ? location.hash.slice("#link=".length) : "";
  if (!code) return;
  history.replaceState(null, "", location.pathname + location.search);
  try {
    const answer = await api("POST", "/api/auth/link", { code });
    csrf = answer.data.csrf;
    await show(answer.data.user);
  } catch (error) {
    if (!me) await show(null);
    notice(explain(error), true);
  }
}

onSubmit("login-form", async (form, data) => {
  const answer = await api("POST", "/api/auth/login", { ...Object.fromEntries(data), cookie: true });
  form.reset();
  csrf = answer.data.csrf;
  await show(answer.data.user);
});

onSubmit("claim-form", async (form, data) => {
  const name = data.get("name").trim();
  await api("POST", "/api/devices/claim", { code: data.get("code"), ...(data.has("primary") && { primary: true }), ...(name && { name }) });
  form.reset();
  await refresh();
  notice(t("claimed"));
}, "wrongCode");

onSubmit("password-form", async (form, data) => {
  const answer = await api("PUT", "/api/auth/password", Object.fromEntries(data));
  form.reset();
  csrf = answer.data.csrf;
  notice(t("changed"));
});

$("logout").addEventListener("click", () => act($("logout"), async () => {
  await api("POST", "/api/auth/logout", {});
  await show(null);
}));
$("more").addEventListener("click", () => act($("more"), () => { pages += 1; return refresh(); }));

document.documentElement.lang = language;
document.querySelectorAll("[data-t]").forEach((node) => { node.textContent = t(node.dataset.t); });
await start();
await followLink();
window.addEventListener("hashchange", followLink);
setInterval(follow, REFRESH_MS);
