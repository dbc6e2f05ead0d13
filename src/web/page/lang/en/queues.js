// Texts of the view queues.
/** @type {import("../../lib/i18n.js").Texts} */
export default {};
