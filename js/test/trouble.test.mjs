import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { Server } from "./browser.mjs";
import { browser, keys, open, server } from "./tab.mjs";

describe("trouble", () => {
	it("is waited out: 503, 429, 409, broken connections, another server's page", async () => {
		const tab = open();
		const html = [200, { "Content-Type": "text/html" }, "<p>Log in to this hotel"];
		server.plan = [[503, { "Retry-After": "0" }], [500, {}], "cut", html, [200, {}, {}], [409, {}], [429, {}]];
		const random = Math.random;
		try {
			Math.random = () => 0; // no longer than it must
			const sleepy = globalThis.setTimeout;
			globalThis.setTimeout = (f, ms, ...args) => sleepy(f, ms === 15000 ? ms : Math.min(ms, 20), ...args);
			try {
				assert.equal(await tab.token(), "auth2");
			} finally {
				globalThis.setTimeout = sleepy;
			}
		} finally {
			Math.random = random;
		}
		assert.equal(server.requests.length, 8);
		assert.equal(new Set(keys().slice(0, 6)).size, 1, "the same request, until it is known to have renewed nothing");
		assert.equal(new Set(keys()).size, 2);
		assert.ok(!tab.log.includes("onSignedOut"));
	});

	it("is waited out for as long as Retry-After says", async () => {
		const tab = open();
		server.plan = [[503, { "Retry-After": "1" }]];
		const start = performance.now();
		await tab.token();
		assert.ok(performance.now() - start >= 1000);
	});

	it("is not asked without a pause, whatever Retry-After says", async () => {
		const values = ["-1", "-1e9", "1e12", "9999999999", "99999999999999999999", "0x", "soon", "Fri, 31 Dec 1999 23:59:59 GMT"];
		const each = values.map(async (value) => {
			const busy = await new Server().start();
			try {
				const tab = open({ url: busy.origin + "/auth" });
				busy.plan = Array.from({ length: 100 }, () => [503, { "Retry-After": value }]);
				const token = tab.token().catch((error) => error);
				await sleep(1000);
				assert.ok(busy.requests.length > 0 && busy.requests.length <= 4, `${value}: ${busy.requests.length} requests in a second`);
				tab.close();
				assert.match((await token).message, /closed/);
			} finally {
				await busy.stop();
			}
		});
		await Promise.all(each);
	});

	it("offline ends when the device is online", async () => {
		const target = new EventTarget();
		browser.define("addEventListener", target.addEventListener.bind(target));
		browser.define("removeEventListener", target.removeEventListener.bind(target));
		const tab = open();
		server.plan = [[503, { "Retry-After": "3000" }]];
		const token = tab.token();
		while (!tab.log.includes("waiting")) await sleep(5);
		target.dispatchEvent(new Event("online"));
		assert.equal(await token, "auth2");
	});

	it("of a request that is wrong is an error", async () => {
		const tab = open();
		for (const status of [400, 403, 404, 405]) {
			server.plan = [[status, {}, {}]];
			await assert.rejects(tab.token(), new RegExp("status " + status));
		}
		assert.equal(await tab.token(), "auth2");
		assert.ok(!tab.log.includes("onSignedOut"));
	});
});
