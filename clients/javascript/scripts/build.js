// Builds `dist`: a bundle of each entry as ESM and as CommonJS, and the declarations beside both.
import { execFileSync } from "node:child_process";
import { cp, mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const root = fileURLToPath(new URL("..", import.meta.url));
const dist = join(root, "dist");
await rm(dist, { recursive: true, force: true });
for (const [folder, format] of [["esm", "esm"], ["cjs", "cjs"]]) {
  await build({
    entryPoints: ["index", "rest", "file"].map((name) => join(root, `src/${name}.js`)),
    outdir: join(dist, folder), bundle: true, minify: true, format, target: "es2022", platform: "neutral", external: ["node:*"],
    // Fields with `_` are the package's own, across its modules.
    mangleProps: /^_/, charset: "utf8", legalComments: "none", sourcemap: true, sourcesContent: true,
  });
}
execFileSync(process.execPath, [join(root, "node_modules/typescript/bin/tsc"), "-p", join(root, "tsconfig.build.json")], { stdio: "inherit" });
await cp(join(root, "src/api.d.ts"), join(dist, "esm/api.d.ts"));
for (const name of ["LICENSE-MIT", "LICENSE-APACHE"]) await cp(join(root, "../..", name), join(root, name));
await mkdir(join(dist, "cjs"), { recursive: true });
await cp(join(dist, "esm"), join(dist, "cjs"), { recursive: true, filter: (path) => !/\.js(\.map)?$/.test(path) });
await writeFile(join(dist, "cjs/package.json"), '{"type":"commonjs"}\n');
