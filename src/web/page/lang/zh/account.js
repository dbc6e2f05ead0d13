// Texts of the view account.
/** @type {import("../../lib/i18n.js").Texts} */
export default {};
