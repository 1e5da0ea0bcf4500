// Builds obscura.html: the page, its style and the SDK's own modules in one file, byte for byte the same each time.
//
//   node build.mjs            writes obscura.html
//   node build.mjs --check    fails where the committed file is not what would be built

import { createHash } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";

const here = import.meta.dirname;
const require = createRequire(path.join(here, "../typescript/package.json"));
const { build, transform } = require("esbuild");

/** What the page has no use for: OpenAI's client, policies that somebody else wrote, and Curve25519 where the browser has none. */
const STUBS = {
  openai: "export const openaiFetch = () => fetch;",
  rules: "export const readPolicy = () => { throw new Error(); };",
  fallback: `export const sharedSecret = () => { throw new Error("This browser is too old: it has no X25519 and no Ed25519."); };
    export const isEquation = sharedSecret;`,
};
const without = {
  name: "without",
  setup({ onLoad }) {
    onLoad({ filter: /typescript[\\/]src[\\/](openai|rules|fallback)\.ts$/ }, ({ path: file }) => ({ contents: STUBS[path.basename(file, ".ts")] }));
  },
};

const { outputFiles } = await build({
  entryPoints: [path.join(here, "page.ts")],
  absWorkingDir: here,
  bundle: true, minify: true, write: false, format: "iife", target: "es2022", charset: "utf8", legalComments: "inline",
  nodePaths: [path.join(here, "../typescript/node_modules")],
  // Whatever lies in folders above.
  tsconfigRaw: {},
  plugins: [without],
});
const script = outputFiles[0].text.trim();
const { code } = await transform(readFileSync(path.join(here, "page.css"), "utf8"), { loader: "css", minify: true, charset: "utf8" });
const style = code.trim();
if (/<\/script|<!--/i.test(script) || /<\/style/i.test(style)) throw new Error("the script would end its own element");

const digest = (text) => `'sha256-${createHash("sha256").update(text).digest("base64")}'`;
const policy = [
  "default-src 'none'", `script-src ${digest(script)}`, `style-src ${digest(style)}`, "img-src data: blob:", "connect-src http: https:",
  "base-uri 'none'", "form-action 'none'", "require-trusted-types-for 'script'", "trusted-types 'none'",
].join("; ");
const html = readFileSync(path.join(here, "page.html"), "utf8")
  .replace(/<!--(?!\/\/)[\s\S]*?-->/g, "")
  .replace(/\n\s*/g, "\n")
  .replace("{{policy}}", () => policy)
  .replace("{{style}}", () => style)
  .replace("{{script}}", () => script);

const target = path.join(here, "obscura.html");
if (process.argv[2] === "--check") {
  if (readFileSync(target, "utf8") !== html) throw new Error("obscura.html is not what is built: run `npm run page`");
} else writeFileSync(target, html);
console.log(`${Buffer.byteLength(html)} bytes, SHA-256 ${createHash("sha256").update(html).digest("hex")}`);
