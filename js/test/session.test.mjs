import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { createSession, SignedOutError } from "../dist/index.js";
import { Browser, Server } from "./browser.mjs";

let server;
let browser;
let tabs;
let skew; // of the device's clock, in milliseconds

const now = Date.now;
Date.now = () => now() + skew;

/** Opens a tab. Its log has its events and, as "onSignedOut", the calls of that. */
function open(options = {}) {
	const tab = createSession({
		url: server.origin + "/auth",
		renewIdle: false,
		onEvent: (event) => tab.log.push(event),
		onSignedOut: () => tab.log.push("onSignedOut"),
		...options,
	});
	tab.log = [];
	tabs.push(tab);
	return tab;
}

const useBrowser = (options) => {
	browser?.close();
	browser = new Browser(options);
};
const call = async (tab, init) => (await tab.fetch(server.origin + "/api", init)).status;
/** Holds the next renewal back: returns a promise that it has arrived, and what releases it. */
function hold() {
	const renew = server.renew;
	let arrive;
	let release;
	const arrived = new Promise((resolve) => (arrive = resolve));
	const released = new Promise((resolve) => (release = resolve));
	server.renew = async (req, res) => {
		server.renew = renew;
		arrive();
		await released;
		server.renew(req, res);
	};
	return [arrived, release];
}
const keys = () => server.requests.map((request) => request.key);

beforeEach(async () => {
	server = await new Server().start();
	tabs = [];
	skew = 0;
	useBrowser();
});
afterEach(async () => {
	for (const tab of tabs) tab.close();
	browser.close();
	browser = undefined;
	await server.stop();
});

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
		skew = 40e3; // of 60, and 30 is the time to renew
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
		skew = 60e3;
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
				skew += 3600e3; // they have all slept
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

	for (const value of ["-1", "-1e9", "1e12", "9999999999", "99999999999999999999", "0x", "soon", "Fri, 31 Dec 1999 23:59:59 GMT"]) {
		it(`is not asked without a pause for a Retry-After of ${value}`, async () => {
			const tab = open();
			server.plan = Array.from({ length: 100 }, () => [503, { "Retry-After": value }]);
			const token = tab.token().catch((error) => error);
			await sleep(1000);
			assert.ok(server.requests.length <= 4, `${server.requests.length} requests in a second`);
			tab.close();
			assert.match((await token).message, /closed/);
		});
	}

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

describe("the device's clock", () => {
	for (const hours of [-1, 1]) {
		it(`may be set by ${hours} h while a page is open`, async () => {
			const tab = open();
			await tab.token();
			skew = hours * 3600e3;
			await tab.token();
			await tab.token();
			assert.equal(server.renewals, hours < 0 ? 1 : 2, "too much time costs a renewal, too little costs nothing");
		});

		it(`may be wrong by ${hours} h`, async () => {
			skew = hours * 3600e3;
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
			skew = 61e3;
			assert.equal(await tab.token(), "auth3");
		} finally {
			performance.now = now;
		}
	});
});

describe("the end", () => {
	it("is told in every tab, once", async () => {
		const [a, b] = [open(), open()];
		await a.token();
		assert.equal(await b.token(), "auth2");
		server.revoked = true;
		skew += 3600e3;
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
