// Checks the size of the core, minified and compressed as servers do it.
import { readFile } from "node:fs/promises";
import { gzipSync } from "node:zlib";

const MAX_CORE = 6000;
const sizes = {};
for (const name of ["index", "rest", "file"]) {
  sizes[name] = gzipSync(await readFile(new URL(`../dist/esm/${name}.js`, import.meta.url)), { level: 9 }).length;
  console.log(`${name}.js: ${sizes[name]} bytes compressed`);
}
if (sizes.index > MAX_CORE) {
  console.error(`the core has more than ${MAX_CORE} bytes`);
  process.exit(1);
}
