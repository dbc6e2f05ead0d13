// check.mjs: the source of the page: its types, its texts in both languages, its size.
import { execFileSync } from "node:child_process";
import { cp, mkdtemp, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, extname, join, relative } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { gzipSync } from "node:zlib";

const TYPESCRIPT = "7.0.2";
const MAX_COMPRESSED = 200_000;
/** Files that are served, as in build.rs. */
const SERVED = new Set([".html", ".js", ".css", ".svg", ".png", ".webmanifest"]);
const page = join(dirname(fileURLToPath(import.meta.url)), "../../../src/web/page");
const faults = [];

async function files(folder) {
  const found = [];
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) found.push(...(await files(path)));
    else found.push(path);
  }
  return found.sort();
}

/** Types, from the JSDoc comments. */
async function types(work, manifest) {
  const wanted = manifest.packages.map(({ name, version }) => `${name}@${version}`);
  execFileSync("npm", ["install", "--silent", "--no-save", "--no-audit", "--no-fund", "--prefix", work, `typescript@${TYPESCRIPT}`, ...wanted], { stdio: "inherit" });
  const modules = join(work, "node_modules");
  await writeFile(join(work, "tsconfig.json"), JSON.stringify({
    compilerOptions: {
      noEmit: true, allowJs: true, checkJs: true, strict: true, noUnusedLocals: true, noUnusedParameters: false, noImplicitReturns: true, noFallthroughCasesInSwitch: true,
      target: "es2023", module: "esnext", moduleResolution: "bundler", lib: ["es2023", "dom", "dom.iterable"], types: [], skipLibCheck: true,
      paths: {
        "preact": [join(modules, "preact")], "preact/*": [join(modules, "preact/*")], "@preact/signals": [join(modules, "@preact/signals")],
        "@preact/signals-core": [join(modules, "@preact/signals-core")], "uplot": [join(modules, "uplot")], "lean-qr": [join(modules, "lean-qr")],
      },
    },
    include: [`${page}/**/*.js`, `${page}/vendor/*.d.ts`],
    exclude: [`${page}/vendor/*.js`, `${page}/worker.js`],
  }));
  try {
    execFileSync(join(modules, ".bin/tsc"), ["-p", work, "--pretty", "false"], { encoding: "utf8", cwd: page });
  } catch (error) {
    faults.push(...error.stdout.trim().split("\n"));
  }
}

// The server's own words are English: another language may do without them.
const parameters = (text) => [...new Set((typeof text === "string" ? text : Object.values(text).join(" ")).match(/\{\w+\}/g))]
  .filter((name) => name !== "{message}").sort().join(" ");

/** Every text is in both languages, with the same parameters; every text that is used is there, and every one that is there is used. */
async function texts(work) {
  const copy = join(work, "page");
  await cp(page, copy, { recursive: true });
  await writeFile(join(copy, "package.json"), '{"type":"module"}');
  const load = async (name) => (await import(pathToFileURL(join(copy, "lang", `${name}.js`)).href)).default;
  const [en, zh] = [await load("en"), await load("zh")];
  for (const [name, own, other] of [["en", en, zh], ["zh", zh, en]]) {
    for (const [key, text] of Object.entries(own)) {
      if (!(key in other)) faults.push(`${key} is in ${name} only`);
      else if (parameters(text) !== parameters(other[key])) faults.push(`${key}: ${parameters(text)} in ${name}, ${parameters(other[key])} in the other language`);
      if (!(typeof text === "string" ? text : text.one && text.other)) faults.push(`${key} is empty in ${name}`);
    }
  }
  // A key twice, in two files or in one, would silently win over the other.
  for (const name of ["en", "zh"]) {
    const seen = new Map();
    for (const file of (await files(join(page, "lang", name)))) {
      for (const [, key] of (await readFile(file, "utf8")).matchAll(/^\s*"([\w.]+)":/gm)) {
        if (seen.has(key)) faults.push(`${key} is twice in ${name}: ${relative(page, file)}, ${seen.get(key)}`);
        seen.set(key, relative(page, file));
      }
    }
  }
  const used = new Set();
  const patterns = [];
  for (const file of (await files(page)).filter((path) => path.endsWith(".js") && !/\/(lang|vendor)\//.test(path))) {
    const source = await readFile(file, "utf8");
    for (const [, key] of source.matchAll(/["'`]([a-z]\w*(?:\.\w+)+)["'`]/g)) used.add(key);
    for (const [, key] of source.matchAll(/\b(?:t|has)\(\s*["']([^"']+)["']/g)) if (!(key in en)) faults.push(`${relative(page, file)} uses ${key}, which no language has`);
    for (const [, template] of source.matchAll(/`([a-z]\w*\.[\w.]*(?:\$\{[^`]*?\}[\w.]*)+)`/g)) {
      const pattern = new RegExp(`^${template.replace(/\./g, "\\.").replace(/\$\{[^`]*?\}/g, "[\\w.]+")}$`);
      patterns.push(pattern);
      if (!Object.keys(en).some((key) => pattern.test(key))) faults.push(`${relative(page, file)} uses ${template}, which no text matches`);
    }
  }
  for (const key of Object.keys(en)) {
    if (!used.has(key) && !patterns.some((pattern) => pattern.test(key))) faults.push(`nothing uses ${key}`);
  }
  return Object.keys(en).length;
}

/** All files together, compressed one by one as build.rs does. */
async function size() {
  let [plain, compressed, count] = [0, 0, 0];
  for (const file of await files(page)) {
    if (!SERVED.has(extname(file))) continue;
    const bytes = await readFile(file);
    plain += bytes.length;
    compressed += gzipSync(bytes, { level: 9 }).length;
    count += 1;
  }
  if (compressed >= MAX_COMPRESSED) faults.push(`the page has ${compressed} bytes compressed; it must stay below ${MAX_COMPRESSED}`);
  return { plain, compressed, count };
}

const work = await mkdtemp(join(tmpdir(), "qy-lty-page-"));
try {
  const manifest = JSON.parse(await readFile(join(page, "vendor/manifest.json"), "utf8"));
  await types(work, manifest);
  const count = await texts(work);
  const sum = await size();
  for (const fault of faults) console.error(fault);
  console.log(`page: ${count} texts in 2 languages; ${sum.count} files, ${sum.plain} bytes, ${sum.compressed} compressed; ${faults.length} faults`);
} finally {
  await rm(work, { recursive: true, force: true });
}
process.exit(faults.length ? 1 : 0);
