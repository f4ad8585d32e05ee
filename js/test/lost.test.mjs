import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { browser, keys, open, server } from "./tab.mjs";

describe("a lost response", () => {
	it("is asked for again with the same key", async () => {
		const tab = open();
		server.plan = ["drop"];
		assert.equal(await tab.token(), "auth2");
		assert.equal(server.renewals, 1);
		assert.equal(keys()[0], keys()[1]);
		assert.deepEqual(tab.log, ["waiting", "repeated"]);
	});

	it("is asked for again by the page that comes after", async () => {
		server.plan = ["drop"];
		const before = open();
		before.token().catch(() => {});
		while (server.requests.length === 0) await sleep(5);
		before.close();
		const after = open();
		assert.equal(await after.token(), "auth2");
		assert.equal(server.renewals, 1);
		assert.equal(keys()[0], keys().at(-1));
		assert.deepEqual(after.log, ["repeated"]);
	});

	it("costs a second request if its cookie has arrived after all", async () => {
		const tab = open();
		await tab.token();
		browser.items.set("renew:" + server.origin + "/auth/", server.heldKey);
		const after = open();
		assert.equal(await after.token(), "auth3");
		assert.deepEqual(
			server.requests.map((request) => request.status),
			[200, 400, 200],
		);
		assert.notEqual(keys()[1], keys()[2]);
	});

	it("does not make a client ask without end, if tokens are expired when they arrive", async () => {
		server.lifetime = 0;
		const tab = open();
		const token = tab.token().catch((error) => error);
		await sleep(1000);
		assert.ok(server.requests.length <= 4, `${server.requests.length} requests in a second`);
		tab.close();
		assert.match((await token).message, /closed/);
	});

	it("that has expired is followed by a renewal", async () => {
		server.lifetime = 0;
		const tab = open();
		server.plan = ["drop"];
		const token = tab.token();
		while (server.requests.length < 2) await sleep(5);
		server.lifetime = 60;
		assert.equal(await token, "auth3");
		assert.equal(server.renewals, 2);
	});
});

describe("keys", () => {
	it("are random, one for each renewal, and kept only until the response", async () => {
		const tab = open();
		const kept = [];
		for (let i = 0; i < 50; i++) {
			const renewed = tab.renew();
			while (server.requests.length === i) await sleep(1);
			kept.push(...browser.items.values());
			await renewed;
			assert.equal(browser.items.size, 0);
		}
		assert.equal(new Set(keys()).size, 50);
		for (const key of keys()) assert.match(key, /^[A-Za-z0-9+/]{32}$/);
		assert.ok(kept.every((value) => keys().includes(value)));
	});
});
