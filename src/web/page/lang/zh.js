// All texts of this language, one file a view.
import ui from "./zh/ui.js";
import signin from "./zh/signin.js";
import mine from "./zh/mine.js";
import inbox from "./zh/inbox.js";
import clients from "./zh/clients.js";
import account from "./zh/account.js";
import docs from "./zh/docs.js";
import overview from "./zh/overview.js";
import connections from "./zh/connections.js";
import users from "./zh/users.js";
import devices from "./zh/devices.js";
import queues from "./zh/queues.js";
import messages from "./zh/messages.js";
import traffic from "./zh/traffic.js";
import playground from "./zh/playground.js";
import audit from "./zh/audit.js";
import settings from "./zh/settings.js";

/** @type {import("../lib/i18n.js").Texts} */
export default {
  ...ui, ...signin, ...mine, ...inbox, ...clients, ...account, ...docs, ...overview, ...connections, ...users, ...devices, ...queues, ...messages, ...traffic,
  ...playground, ...audit, ...settings,
};
