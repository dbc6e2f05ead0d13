// Texts of the view audit.
/** @type {import("../../lib/i18n.js").Texts} */
export default {};
