// Texts of the view signin.
/** @type {import("../../lib/i18n.js").Texts} */
export default {
  "signin.title": "Sign in",
  "signin.action": "Sign in",
  "signin.name": "User name",
  "signin.ended": "Your session has ended. Sign in again to go on.",
  "signin.link": "On the server's machine, this prints a link that signs you in:",
  "signin.docs": "Read the API documentation",
};
