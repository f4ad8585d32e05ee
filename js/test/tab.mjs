// The server, the browser and the tabs of one test: made before it, closed after it.
// Each file of tests runs in a process of its own.
import { afterEach, beforeEach } from "node:test";

import { createSession } from "../dist/index.js";
import { Browser, Server } from "./browser.mjs";

export let server;
export let browser;
export const device = { skew: 0 }; // of its clock, in milliseconds
let tabs;

const now = Date.now;
Date.now = () => now() + device.skew;

/** Opens a tab. Its log has its events and, as "onSignedOut", the calls of that. */
export function open(options = {}) {
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

export const useBrowser = (options) => {
	browser?.close();
	browser = new Browser(options);
};
export const call = async (tab, init) => (await tab.fetch(server.origin + "/api", init)).status;
/** Holds the next renewal back: returns a promise that it has arrived, and what releases it. */
export function hold() {
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
export const keys = () => server.requests.map((request) => request.key);

beforeEach(async () => {
	server = await new Server().start();
	tabs = [];
	device.skew = 0;
	useBrowser();
});
afterEach(async () => {
	for (const tab of tabs) tab.close();
	browser.close();
	browser = undefined;
	await server.stop();
});
