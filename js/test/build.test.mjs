import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { it } from "node:test";
import { gzipSync } from "node:zlib";

const root = fileURLToPath(new URL("..", import.meta.url));
const tsc = join(root, "node_modules/typescript/bin/tsc");

it("the client is under 3 kB gzipped, and needs nothing", (t) => {
	const built = readFileSync(join(root, "dist/index.js"));
	const size = gzipSync(built, { level: 9 }).length;
	t.diagnostic(`dist/index.js: ${built.length} bytes, ${size} gzipped`);
	assert.ok(size < 3000);
	assert.doesNotMatch(built.toString(), /\b(import|require)\b/);
	const { dependencies, peerDependencies } = JSON.parse(readFileSync(join(root, "package.json")));
	assert.deepEqual([dependencies, peerDependencies], [undefined, undefined]);
});

const missing = !existsSync(tsc) && "the TypeScript compiler is not installed: npm ci --prefix js";
if (missing && process.env.RENEW_REQUIRE_NODE) throw new Error(missing);

it("the committed build is what tsc makes of the source", { skip: missing }, () => {
	const fresh = mkdtempSync(join(tmpdir(), "renew-build-"));
	try {
		for (const flags of [["--removeComments", "--declaration", "false"], ["--emitDeclarationOnly"]]) {
			execFileSync(process.execPath, [tsc, "-p", root, "--outDir", fresh, ...flags], { stdio: "inherit" });
		}
		assert.deepEqual(readdirSync(join(root, "dist")).sort(), ["index.d.ts", "index.js"]);
		for (const file of readdirSync(fresh)) {
			assert.equal(readFileSync(join(root, "dist", file), "utf8"), readFileSync(join(fresh, file), "utf8"), `${file}: run npm run build`);
		}
	} finally {
		rmSync(fresh, { recursive: true });
	}
});
