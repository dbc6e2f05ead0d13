// “我的客户端”页的文字。
/** @type {import("../../lib/i18n.js").Texts} */
export default {
  "clients.about": "手机、平板、网页等，每个客户端都会按自己的进度收到每一条消息。",
  "clients.none": "还没有客户端",
  "clients.none.text": "应用首次连接后，即成为一个客户端。",
  "clients.name": "客户端",
  "clients.default": "default（未命名的应用）",
  "clients.state": "状态",
  "clients.waiting": "排队",
  "clients.last": "上次连接",
  "clients.actions": "操作",
  "clients.forget": "移除 {name}",
  "clients.forget.title": "移除“{name}”？",
  "clients.forget.text": "它的连接会断开，只等待它接收的消息会被丢弃。再次连接时，它将是一个新客户端。",
  "clients.forget.action": "移除",
  "clients.how": "应用在连接时用参数 client 为自己命名。同名的应用共用同一个接收进度。",
  "clients.address": "连接地址",
};
