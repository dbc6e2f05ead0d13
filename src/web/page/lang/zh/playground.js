// Texts of the view playground.
/** @type {import("../../lib/i18n.js").Texts} */
export default {};
