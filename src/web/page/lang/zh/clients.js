// Texts of the view clients.
/** @type {import("../../lib/i18n.js").Texts} */
export default {};
