import assert from "node:assert/strict";
import { beforeEach, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { browser, call, device, hold, open, server, useBrowser } from "./tab.mjs";

for (const [how, options] of [
	["with Web Locks", {}],
	["with a lease in IndexedDB", { locks: false }],
]) {
	describe(`several tabs, ${how}`, () => {
		beforeEach(() => useBrowser(options));

		it("renew once", async () => {
			const eight = Array.from({ length: 8 }, () => open());
			for (let round = 1; round <= 5; round++) {
				const tokens = await Promise.all(eight.map((tab) => tab.token()));
				assert.deepEqual(new Set(tokens), new Set(["auth" + (round + 1)]));
				assert.equal(server.renewals, round);
				assert.equal(server.requests.length, round);
				device.skew += 3600e3; // they have all slept
			}
			const events = eight.flatMap((tab) => tab.log);
			assert.equal(events.filter((event) => event === "renewed").length, 5);
			assert.equal(events.filter((event) => event === "received").length, 35);
			assert.ok(!events.includes("onSignedOut"));
		});

		it("wait for one that is slow", async () => {
			const [a, b] = [open(), open()];
			const [arrived, release] = hold();
			const tokens = Promise.all([a.token(), b.token()]);
			await arrived;
			await sleep(2500); // for longer than a lease
			release();
			assert.deepEqual(await tokens, ["auth2", "auth2"]);
			assert.equal(server.requests.length, 1);
		});

		it("are not kept waiting by one whose request fails", async () => {
			const [a, b] = [open(), open()];
			server.plan = ["cut", "cut"];
			assert.deepEqual(await Promise.all([a.token(), b.token()]), ["auth2", "auth2"]);
			assert.equal(server.renewals, 1);
		});
	});
}

describe("a lease in IndexedDB", () => {
	beforeEach(() => useBrowser({ locks: false }));

	for (const [whose, left] of [
		["a tab that has gone", 2000],
		["a clock that was set back since", 3600e3],
	]) {
		it(`of ${whose} ends`, { timeout: 60e3 }, async () => {
			indexedDB.values.set(0, Date.now() + left);
			assert.equal(await open().token(), "auth2");
		});
	}
});

describe("a browser that denies storage to the page", () => {
	function denied() {
		throw new DOMException("The operation is insecure.", "SecurityError");
	}

	it("with its locks and channels: the server tells the tabs apart", async () => {
		useBrowser({ storage: false });
		browser.define("navigator", { locks: { request: async () => denied() } });
		browser.define("BroadcastChannel", denied);
		browser.define("indexedDB", { open: denied });
		const [a, b] = [open(), open()];
		await Promise.all([a.token(), b.token()]);
		assert.equal(await call(a), 200);
		assert.ok(![...a.log, ...b.log].includes("onSignedOut"));
		await a.signOut();
		assert.ok(server.revoked);
	});

	it("later, while a tab has the lease: the tab renews", async () => {
		useBrowser({ locks: false });
		const tab = open();
		const [arrived, release] = hold();
		const token = tab.token();
		await arrived;
		indexedDB.begin = denied; // the user has deleted the site's data
		await sleep(700); // until the lease is due to be made longer
		release();
		assert.equal(await token, "auth2");
		await sleep(100); // an unhandled rejection would fail the test
		assert.equal(await tab.renew(), undefined);
	});
});

it("several tabs without locks and storage are told apart by the server", async () => {
	useBrowser({ locks: false, storage: false });
	const eight = Array.from({ length: 8 }, () => open());
	await Promise.all(eight.map((tab) => tab.token()));
	assert.ok(server.requests.every(({ status }) => status === 200 || status === 409));
	assert.ok(!eight.flatMap((tab) => tab.log).includes("onSignedOut"));
});
