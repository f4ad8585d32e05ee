import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { SignedOutError } from "../dist/index.js";
import { browser, call, device, hold, open, server } from "./tab.mjs";

describe("the end", () => {
	it("is told in every tab, once", async () => {
		const [a, b] = [open(), open()];
		await a.token();
		assert.equal(await b.token(), "auth2");
		server.revoked = true;
		device.skew += 3600e3;
		await assert.rejects(call(a), SignedOutError);
		await sleep(50);
		await assert.rejects(call(b), SignedOutError);
		await assert.rejects(call(a), SignedOutError);
		assert.equal(server.requests.length, 2, "who is signed out asks no more");
		for (const tab of [a, b]) {
			assert.deepEqual(tab.log.slice(-2), ["signed out", "onSignedOut"]);
			assert.equal(tab.log.filter((event) => event === "onSignedOut").length, 1);
			assert.equal(tab.id, undefined);
			assert.equal(tab.expiresIn, 0);
		}
	});

	it("without a login is told too", async () => {
		browser.cookie = "";
		const tab = open();
		await assert.rejects(call(tab), SignedOutError);
		assert.deepEqual(tab.log, ["signed out", "onSignedOut"]);
	});

	it("is followed by a login in one of the tabs", async () => {
		const [a, b] = [open(), open()];
		browser.cookie = "";
		await assert.rejects(a.token(), SignedOutError);
		await assert.rejects(b.token(), SignedOutError);
		browser.cookie = "rt=1"; // as of httpadapter.SetSession
		await a.renew();
		await sleep(50);
		assert.equal(await a.token(), "auth2");
		assert.equal(await b.token(), "auth2");
	});

	it("of the session before is not that of the present one", async () => {
		const [a, b] = [open(), open()];
		await a.token();
		assert.equal(await b.token(), "auth2");
		// a's renewal is on its way when the user logs in again in b.
		server.plan = [[401, {}, {}]];
		const [arrived, release] = hold();
		const late = a.renew();
		await arrived;
		const channel = new BroadcastChannel("renew:" + server.origin + "/auth/");
		channel.postMessage({ grant: { ...server.grant(), auth_token: "other", session_id: "s2" }, at: Date.now() });
		await sleep(50);
		release();
		await late;
		channel.postMessage({ over: "s1" });
		await sleep(50);
		channel.close();
		assert.equal(await a.token(), "other");
		assert.equal(await b.token(), "other");
		assert.ok(![...a.log, ...b.log].includes("onSignedOut"));
	});

	it("is asked for by signOut", async () => {
		const [a, b] = [open(), open()];
		await a.token();
		server.plan = [[503, { "Retry-After": "1" }, {}]];
		await assert.rejects(a.signOut(), /status 503/);
		assert.equal(await a.token(), "auth2", "nothing has changed");
		await a.signOut();
		await sleep(50);
		for (const tab of [a, b]) assert.equal(tab.log.filter((event) => event === "onSignedOut").length, 1);
		assert.equal(browser.cookie, "");
		assert.ok(server.revoked);
	});
});
