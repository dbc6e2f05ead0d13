// Texts of the view inbox.
/** @type {import("../../lib/i18n.js").Texts} */
export default {};
