// vendor.mjs [--write]: makes the files of src/web/page/vendor from the npm tarballs that its manifest names, and from the client in
// clients/javascript; compares them with those that are committed. With --write it replaces them, and the checksums in the manifest.
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdtemp, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const ESBUILD = "0.28.2";
const root = join(dirname(fileURLToPath(import.meta.url)), "../../..");
const vendor = join(root, "src/web/page/vendor");
const write = process.argv.includes("--write");
const sha256 = (bytes) => createHash("sha256").update(bytes).digest("hex");

/** What each file is made of: an entry module, or a file of a tarball as it is. */
const FILES = {
  "preact.js": {
    entry: `
      import { h } from "preact";
      import htm from "htm";
      export { h, render, Fragment, Component, createContext } from "preact";
      export { useState, useEffect, useLayoutEffect, useRef, useMemo, useCallback, useContext, useId } from "preact/hooks";
      export { signal, computed, effect, batch, untracked, useSignal, useComputed, useSignalEffect } from "@preact/signals";
      export const html = htm.bind(h);`,
  },
  "uplot.js": { entry: `export { default } from "uplot";` },
  // Fields with `_` are that package's own, as its scripts/build.js has it.
  "qy-lty-client.js": { entry: `export { DeviceWebSocketClient } from "./clients/javascript/src/index.js";`, from: root, mangleProps: /^_/ },
  "lean-qr.js": { entry: `export { generate, correction } from "lean-qr";` },
  "uplot.css": { copy: "uplot/dist/uPlot.min.css" },
  "LICENSES.txt": {},
};

const manifest = JSON.parse(await readFile(join(vendor, "manifest.json"), "utf8"));
const work = await mkdtemp(join(tmpdir(), "qy-lty-vendor-"));
let failed = 0;
/** The licences of what is in the files, for the notices that go with the program. */
const licences = [];
try {
  const npm = (...args) => execFileSync("npm", args, { cwd: work, encoding: "utf8", stdio: ["ignore", "pipe", "inherit"] });
  await writeFile(join(work, "package.json"), "{}");
  for (const item of manifest.packages) {
    const [packed] = JSON.parse(npm("pack", "--json", "--silent", `${item.name}@${item.version}`));
    const file = packed.filename.replace("@", "").replace("/", "-");
    const tarball = await readFile(join(work, file));
    if (write) item.sha256 = sha256(tarball);
    if (item.sha256 !== sha256(tarball)) throw new Error(`the tarball of ${item.name} ${item.version} has another checksum`);
    const into = join(work, "node_modules", item.name);
    await mkdir(into, { recursive: true });
    execFileSync("tar", ["-xzf", join(work, file), "-C", into, "--strip-components=1"]);
    const { license } = JSON.parse(await readFile(join(into, "package.json"), "utf8"));
    if (write) item.licence = license;
    if (item.licence !== license) throw new Error(`the licence of ${item.name} is ${license}`);
    licences.push(`${item.name} ${item.version} (${license}, in the page)\n\n${(await readFile(join(into, "LICENSE"), "utf8")).trim()}\n`);
  }
  npm("install", "--silent", "--no-save", "--no-audit", "--no-fund", "--prefix", join(work, "tool"), `esbuild@${ESBUILD}`);
  const { buildSync } = await import(pathToFileURL(join(work, "tool/node_modules/esbuild/lib/main.js")).href);
  for (const [name, { entry, copy, from = work, mangleProps }] of Object.entries(FILES)) {
    let bytes;
    if (name === "LICENSES.txt") {
      bytes = Buffer.from(licences.join(`\n${"-".repeat(80)}\n`));
    } else if (copy) {
      bytes = await readFile(join(work, "node_modules", copy));
    } else {
      const made = buildSync({
        stdin: { contents: entry, resolveDir: from }, bundle: true, mangleProps, format: "esm", minify: true, target: "es2022",
        legalComments: "inline", charset: "utf8", write: false, define: { "process.env.NODE_ENV": '"production"' },
      });
      bytes = Buffer.from(made.outputFiles[0].contents);
    }
    if (write) {
      await writeFile(join(vendor, name), bytes);
      manifest.files[name] = sha256(bytes);
      continue;
    }
    const present = await readFile(join(vendor, name));
    if (sha256(bytes) !== manifest.files[name] || !present.equals(bytes)) {
      failed += 1;
      console.error(`${name} differs from what its sources make; run: node tests/external/page/vendor.mjs --write`);
    }
  }
  if (write) await writeFile(join(vendor, "manifest.json"), `${JSON.stringify(manifest, null, 2)}\n`);
} finally {
  await rm(work, { recursive: true, force: true });
}
console.log(`vendor: ${Object.keys(FILES).length} files from ${manifest.packages.length} packages, ${failed} differ`);
process.exit(failed ? 1 : 0);
