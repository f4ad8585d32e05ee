import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { Server } from "./browser.mjs";
import { call, device, hold, open, server } from "./tab.mjs";

describe("fetch", () => {
	it("renews when there is no token yet, and sends the token it got", async () => {
		const tab = open();
		assert.equal(server.requests.length, 0, "nothing is sent until a token is needed");
		assert.equal(await call(tab, { method: "POST", body: "hello" }), 200);
		assert.deepEqual(server.calls, [{ token: "Bearer auth2", body: "hello" }]);
		assert.deepEqual(tab.log, ["renewed"]);
		assert.equal(tab.id, "s1");
		assert.ok(tab.expiresIn > 30 && tab.expiresIn <= 60);
		await call(tab);
		assert.equal(server.renewals, 1);
	});

	it("renews once after a 401, and repeats the request with its body", async () => {
		const tab = open();
		server.valid = (token) => token !== "Bearer auth2";
		assert.equal(await call(tab, { method: "PUT", body: "hello" }), 200);
		assert.deepEqual(server.calls, [
			{ token: "Bearer auth2", body: "hello" },
			{ token: "Bearer auth3", body: "hello" },
		]);
		server.valid = () => false;
		assert.equal(await call(tab), 401, "the second 401 is the caller's");
		assert.equal(server.renewals, 3);
	});

	it("renews once for many requests that got a 401 at the same time", async () => {
		const tab = open();
		await tab.token();
		server.valid = (token) => token !== "Bearer auth2";
		const statuses = await Promise.all(Array.from({ length: 20 }, () => call(tab)));
		assert.deepEqual(new Set(statuses), new Set([200]));
		assert.equal(server.renewals, 2);
	});

	it("does not wait for the renewal of a token that is still valid", async () => {
		const tab = open();
		await tab.token();
		device.skew = 40e3; // of 60, and 30 is the time to renew
		server.plan = [[503, { "Retry-After": "30" }]];
		assert.equal(await call(tab), 200);
		assert.deepEqual(server.calls.at(-1).token, "Bearer auth2");
		while (!tab.log.includes("waiting")) await sleep(5);
		await call(tab);
		await sleep(100);
		assert.equal(server.requests.length, 2, "a request does not cut the wait short");
	});

	it("waits for the renewal of a token that has expired", async () => {
		const tab = open();
		await tab.token();
		device.skew = 60e3;
		assert.equal(await tab.token(), "auth3");
	});

	it("sends the token to no origin that is not named", async () => {
		const other = await new Server().start();
		try {
			const tab = open();
			await assert.rejects(tab.fetch(other.origin + "/api"), TypeError);
			assert.equal(other.calls.length, 0);
			const named = open({ origins: [other.origin] });
			assert.equal((await named.fetch(other.origin + "/api")).status, 200);
		} finally {
			await other.stop();
		}
	});

	it("stops waiting when its signal is aborted", async () => {
		const tab = open();
		server.plan = [[503, { "Retry-After": "30" }]];
		const signal = AbortSignal.timeout(100);
		await assert.rejects(call(tab, { signal }), { name: "TimeoutError" });
		await assert.rejects(call(tab, { signal }), { name: "TimeoutError" });
	});
});

describe("the timer", () => {
	it("renews before the token expires, while nothing is fetched", async () => {
		server.lifetime = 2;
		const tab = open({ renewIdle: true });
		await tab.token();
		while (server.renewals < 2) await sleep(20);
		assert.ok(tab.expiresIn > 0);
		assert.equal(server.calls.length, 0);
	});

	it("is not started by a response that arrives after close", async () => {
		server.lifetime = 2;
		const tab = open({ renewIdle: true });
		const [arrived, release] = hold();
		const token = tab.token().catch((error) => error);
		await arrived;
		tab.close();
		release();
		assert.match((await token).message, /closed/);
		await assert.rejects(call(tab), /closed/);
		await sleep(1200);
		assert.equal(server.renewals, 1);
		assert.equal(tab.id, undefined);
	});

	it("is stopped by close", async () => {
		server.lifetime = 2;
		const tab = open({ renewIdle: true });
		await tab.token();
		tab.close();
		await sleep(1200);
		assert.equal(server.renewals, 1);
	});
});

describe("the device's clock", () => {
	for (const hours of [-1, 1]) {
		it(`may be set by ${hours} h while a page is open`, async () => {
			const tab = open();
			await tab.token();
			device.skew = hours * 3600e3;
			await tab.token();
			await tab.token();
			assert.equal(server.renewals, hours < 0 ? 1 : 2, "too much time costs a renewal, too little costs nothing");
		});

		it(`may be wrong by ${hours} h`, async () => {
			device.skew = hours * 3600e3;
			const tab = open();
			await tab.token();
			await tab.token();
			assert.equal(server.renewals, 1);
			assert.ok(tab.expiresIn > 30 && tab.expiresIn <= 60);
		});
	}

	it("counts the time that a device slept, where the other clock stood still", async () => {
		const { now } = performance;
		const stopped = performance.now();
		performance.now = () => stopped;
		try {
			const tab = open();
			await tab.token();
			device.skew = 61e3;
			assert.equal(await tab.token(), "auth3");
		} finally {
			performance.now = now;
		}
	});
});
