// Texts of the view overview.
/** @type {import("../../lib/i18n.js").Texts} */
export default {};
