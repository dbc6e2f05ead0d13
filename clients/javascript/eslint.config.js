import js from "@eslint/js";
import jsdoc from "eslint-plugin-jsdoc";

const shared = {
  AbortController: "readonly", AbortSignal: "readonly", Headers: "readonly", URL: "readonly", URLSearchParams: "readonly", WebSocket: "readonly", clearTimeout: "readonly",
  console: "readonly", crypto: "readonly", fetch: "readonly", setTimeout: "readonly",
};

export default [
  { ignores: ["dist/", "node_modules/", "test/fixtures/"] },
  js.configs.recommended,
  { languageOptions: { globals: shared }, rules: { "max-lines": ["error", 400], "no-var": "error", "prefer-const": "error", eqeqeq: ["error", "always", { null: "ignore" }] } },
  {
    files: ["src/**/*.js"],
    plugins: { jsdoc },
    rules: {
      "max-lines-per-function": ["error", 60],
      "jsdoc/require-jsdoc": ["error", { publicOnly: true, require: { ClassDeclaration: true, FunctionDeclaration: true, MethodDefinition: true } }],
      "jsdoc/require-param": "error", "jsdoc/require-param-type": "error", "jsdoc/check-param-names": "error", "jsdoc/check-tag-names": ["error", { typed: false, definedTags: ["import", "template", "internal"] }],
    },
  },
  {
    files: ["test/**", "scripts/**", "examples/**"],
    languageOptions: { globals: { Buffer: "readonly", Event: "readonly", dispatchEvent: "readonly", document: "readonly", localStorage: "readonly", process: "readonly", window: "readonly" } },
  },
];
