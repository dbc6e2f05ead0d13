// Texts of the view clients.
/** @type {import("../../lib/i18n.js").Texts} */
export default {
  "clients.about": "Phones, tablets, pages: each receives every message once, at its own pace.",
  "clients.none": "No client yet",
  "clients.none.text": "An app becomes a client with its first connection.",
  "clients.name": "Client",
  "clients.default": "default (apps without a name)",
  "clients.state": "State",
  "clients.waiting": "Waiting",
  "clients.last": "Last connected",
  "clients.actions": "Actions",
  "clients.forget": "Forget {name}",
  "clients.forget.title": "Forget {name}?",
  "clients.forget.text": "Its connections are closed, and messages that wait for it alone are dropped. If it connects again, it is a new client.",
  "clients.forget.action": "Forget",
  "clients.how": "An app names itself when it connects, with the parameter client. Apps with the same name share one place in the messages.",
  "clients.address": "Address to connect to",
};
