// Texts of the view signin.
/** @type {import("../../lib/i18n.js").Texts} */
export default {};
