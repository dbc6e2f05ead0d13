// All texts of this language, one file a view.
import ui from "./en/ui.js";
import signin from "./en/signin.js";
import mine from "./en/mine.js";
import inbox from "./en/inbox.js";
import clients from "./en/clients.js";
import account from "./en/account.js";
import docs from "./en/docs.js";
import overview from "./en/overview.js";
import connections from "./en/connections.js";
import users from "./en/users.js";
import devices from "./en/devices.js";
import queues from "./en/queues.js";
import messages from "./en/messages.js";
import traffic from "./en/traffic.js";
import playground from "./en/playground.js";
import audit from "./en/audit.js";
import settings from "./en/settings.js";

/** @type {import("../lib/i18n.js").Texts} */
export default {
  ...ui, ...signin, ...mine, ...inbox, ...clients, ...account, ...docs, ...overview, ...connections, ...users, ...devices, ...queues, ...messages, ...traffic,
  ...playground, ...audit, ...settings,
};
