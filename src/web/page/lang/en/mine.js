// Texts of the view mine.
/** @type {import("../../lib/i18n.js").Texts} */
export default {};
