// Texts of the view docs.
/** @type {import("../../lib/i18n.js").Texts} */
export default {};
