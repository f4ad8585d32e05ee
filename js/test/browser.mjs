// A browser for the tests, with as much as the client uses of one: a cookie jar,
// storage and locks that tabs share, and tabs that can be closed at any moment.
// The server follows the contract of httpadapter.NewBrowser.

import { createServer } from "node:http";
import { once } from "node:events";

/** Server is one session, as httpadapter.NewBrowser serves it. */
export class Server {
	lifetime = 60; // of an auth token, in seconds
	renewals = 0;
	requests = []; // of POST /auth/renew: {key, token, status}
	calls = []; // of /api
	revoked = false;
	current = 1; // the refresh token is its number
	heldKey = undefined;
	/** What happens to the next renewals: "drop" its response, "cut" the connection before it is looked at, or respond [status, headers, body]. */
	plan = [];
	valid = () => true;
	session = "s1";

	async start() {
		this.http = createServer((req, res) => this.serve(req, res));
		this.http.listen(0, "127.0.0.1");
		await once(this.http, "listening");
		this.origin = "http://127.0.0.1:" + this.http.address().port;
		return this;
	}

	async stop() {
		this.http.close();
		this.http.closeAllConnections();
		await once(this.http, "close");
	}

	async serve(req, res) {
		const chunks = [];
		for await (const chunk of req) chunks.push(chunk);
		const body = Buffer.concat(chunks).toString();
		switch (req.url) {
			case "/auth/renew":
				return this.renew(req, res);
			case "/auth/logout": {
				const planned = this.plan.shift();
				if (planned) return respond(res, ...planned);
				this.revoked = true;
				return respond(res, 204, { "Set-Cookie": "rt=; Max-Age=0" });
			}
			default: {
				const token = req.headers.authorization;
				this.calls.push({ token, body });
				return respond(res, this.valid(token) ? 200 : 401, {}, { body });
			}
		}
	}

	renew(req, res) {
		const key = req.headers["idempotency-key"];
		const token = Number(/rt=(\d+)/.exec(req.headers.cookie ?? "")?.[1] ?? NaN);
		const request = { key, token };
		this.requests.push(request);
		const planned = this.plan.shift();
		if (planned === "cut") return res.destroy();
		const [status, headers, body] = Array.isArray(planned) ? planned : this.judge(token, key);
		request.status = status;
		if (planned === "drop") return res.destroy();
		respond(res, status, headers, body);
	}

	judge(token, key) {
		const repeated = key !== undefined && key === this.heldKey;
		if (this.revoked || !(token >= this.current - 1)) {
			return [401, { "Set-Cookie": "rt=; Max-Age=0" }, { message: "signed out" }];
		}
		if (token === this.current) {
			if (repeated) return [400, {}, { message: "invalid request" }];
			this.current++;
			this.heldKey = key;
			this.renewals++;
		} else if (!repeated) {
			return [409, {}, { message: "renewed by another request" }];
		}
		return [200, { "Set-Cookie": "rt=" + this.current }, this.grant()];
	}

	grant() {
		return {
			auth_token: "auth" + this.current,
			expires_in: this.lifetime,
			renew_after: Math.ceil(this.lifetime / 2),
			session_id: this.session,
		};
	}
}

function respond(res, status, headers, body) {
	res.writeHead(status, { "Content-Type": "application/json", ...headers });
	res.end(body === undefined ? undefined : JSON.stringify(body));
}

/** Browser puts its jar, storage and locks where the client looks for them. */
export class Browser {
	cookie = "rt=1";
	items = new Map();
	/** Decides whether the Set-Cookie of a response is seen: a page that ends loses the response, not always the cookie. */
	keepsCookie = true;

	constructor({ locks = true, storage = true } = {}) {
		const real = globalThis.fetch;
		this.restore = [() => (globalThis.fetch = real)];
		globalThis.fetch = async (input, init) => {
			const request = new Request(input, init);
			request.headers.set("Cookie", this.cookie);
			const response = await real(request);
			const set = response.headers.get("Set-Cookie");
			if (set && this.keepsCookie) this.cookie = set.includes("Max-Age=0") ? "" : set;
			return response;
		};
		this.define("localStorage", storage ? this.storage() : undefined);
		this.define("navigator", locks ? { locks: new Locks() } : {});
		this.define("indexedDB", storage ? new Databases() : undefined);
	}

	storage() {
		return {
			getItem: (name) => this.items.get(name) ?? null,
			setItem: (name, value) => this.items.set(name, String(value)),
			removeItem: (name) => this.items.delete(name),
		};
	}

	define(name, value) {
		const before = Object.getOwnPropertyDescriptor(globalThis, name);
		Object.defineProperty(globalThis, name, { value, configurable: true, writable: true });
		this.restore.push(() => (before ? Object.defineProperty(globalThis, name, before) : delete globalThis[name]));
	}

	close() {
		for (const undo of this.restore.reverse()) undo();
	}
}

/** Locks is navigator.locks, as far as exclusive locks go. */
class Locks {
	queues = new Map();

	request(name, hold) {
		const before = this.queues.get(name) ?? Promise.resolve();
		const done = before.then(() => hold());
		this.queues.set(
			name,
			done.catch(() => {}),
		);
		return done;
	}
}

/** Databases is indexedDB, as far as one database with one store goes: its transactions exclude each other. */
class Databases {
	values = new Map();
	last = Promise.resolve();

	open() {
		const opening = {};
		setTimeout(() => {
			opening.result = { createObjectStore() {}, transaction: () => this.begin(), close() {} };
			opening.onupgradeneeded?.();
			opening.onsuccess?.();
		});
		return opening;
	}

	/** A transaction runs when those before it have ended, and ends when no request is left. */
	begin() {
		const requests = [];
		const add = (work) => {
			const request = { work };
			requests.push(request);
			return request;
		};
		this.last = this.last.then(async () => {
			for (const request of requests) {
				await new Promise(setImmediate);
				request.result = request.work();
				request.onsuccess?.();
				await new Promise(setImmediate); // what it leads to
			}
		});
		const store = {
			get: (key) => add(() => this.values.get(key)),
			put: (value, key) => add(() => this.values.set(key, value)),
		};
		return { objectStore: () => store };
	}
}
