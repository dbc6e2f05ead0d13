// Texts of the view devices.
/** @type {import("../../lib/i18n.js").Texts} */
export default {};
