// Texts of the view settings.
/** @type {import("../../lib/i18n.js").Texts} */
export default {};
