// Texts of the view connections.
/** @type {import("../../lib/i18n.js").Texts} */
export default {};
