// Texts of the view traffic.
/** @type {import("../../lib/i18n.js").Texts} */
export default {};
