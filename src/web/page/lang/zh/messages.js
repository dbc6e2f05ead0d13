// Texts of the view messages.
/** @type {import("../../lib/i18n.js").Texts} */
export default {};
