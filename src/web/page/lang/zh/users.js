// Texts of the view users.
/** @type {import("../../lib/i18n.js").Texts} */
export default {};
