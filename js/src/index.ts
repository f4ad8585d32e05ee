/*! @jwtrenew/browser, Apache-2.0 */

// Keeps a page signed in: the client of httpadapter.NewBrowser. The refresh token
// is in a cookie that no script can read; the auth token is in memory, and in the
// memory of this origin's other tabs.

/**
 * What the client did.
 *
 * - `renewed`: this tab renewed the session.
 * - `repeated`: the same, with a request that was sent before and brought no
 *   renewal, such as one whose response was lost.
 * - `received`: another tab renewed the session and sent its auth token.
 * - `waiting`: the renewal has to be tried again: the server is in trouble, the
 *   device is offline, or another request is renewing the session.
 * - `signed out`: the session is over.
 */
export type SessionEvent = "renewed" | "repeated" | "received" | "waiting" | "signed out";

export interface SessionOptions {
	/** Where httpadapter.NewBrowser is served: the client adds `renew` and `logout`. */
	url: string | URL;
	/**
	 * More origins that may be sent the auth token than the page's and that of `url`,
	 * such as `https://api.example.com`.
	 */
	origins?: string[];
	/** Whether to renew on time while nothing is fetched. Default: true. */
	renewIdle?: boolean;
	/** Called in every tab when the session is over: show the login. */
	onSignedOut?: () => void;
	/** Called for everything that the client does. */
	onEvent?: (event: SessionEvent) => void;
}

export interface Session {
	/**
	 * `fetch` with the auth token in `Authorization`. It waits for a renewal if
	 * there is no valid auth token, and after a response of 401 renews once and
	 * repeats the request. It rejects with a SignedOutError when the session is
	 * over, and with a TypeError for an origin that may not be sent the token.
	 */
	fetch(input: RequestInfo | URL, init?: RequestInit): Promise<Response>;
	/** A valid auth token, after a renewal if necessary. */
	token(): Promise<string>;
	/** Renews in any case. Call it after a login, and when the user's rights have changed. */
	renew(): Promise<void>;
	/** Ends the session on the server. It rejects, and nothing has changed, if the server could not be asked. */
	signOut(): Promise<void>;
	/** Forgets the auth token, stops the timer and leaves the other tabs alone. */
	close(): void;
	/** The session's ID, undefined while there is no auth token. */
	readonly id: string | undefined;
	/** The seconds that the auth token is still valid for, 0 if there is none. */
	readonly expiresIn: number;
}

/** The session is over, or there has been no login. */
export class SignedOutError extends Error {
	override name = "SignedOutError";
}

/** The response to a renewal. Times are in seconds from now: the device's clock may be wrong. */
interface Grant {
	auth_token: string;
	session_id: string;
	expires_in: number;
	renew_after: number;
}

/** Between tabs: a new token, or a session that is over. */
type Message = { grant: Grant; at: number } | { over: string };

const second = 1000;
const requestTimeout = 15 * second;
const longestWait = 30 * second;
/** How long the lock is kept after a renewal, so that its message is there before the next tab has the lock. */
const linger = 50;
/** How long a tab that has gone keeps the others waiting where there are no Web Locks. */
const lease = 2 * second;
/** In seconds. Timers cannot wait for longer than some weeks. */
const hour = 3600;

const sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

/** What use returns, or null where the browser denies it to the page: with cookies blocked, it denies storage, channels and locks. */
const permitted = <T>(use: () => T) => {
	try {
		return use();
	} catch {
		return null;
	}
};

/** createSession makes the client of one session. It sends nothing until it is asked for a token. */
export function createSession(options: SessionOptions): Session {
	const page = globalThis.location?.href;
	const base = new URL(options.url, page);
	base.pathname = base.pathname.replace(/\/?$/, "/");
	const origins = new Set([base.origin, page && new URL(page).origin, ...(options.origins ?? [])]);
	const name = "renew:" + base.href;
	const locks = globalThis.navigator?.locks;
	const channel = permitted(() => new BroadcastChannel(name));

	let grant: Grant | undefined;
	let date = 0; // when grant arrived, by the two clocks of the device
	let ticks = 0;
	let over = false;
	let closed = false;
	let pending: string | null = null; // the idempotency key of a request without a response
	let renewal: Promise<void> | undefined;
	let timer: ReturnType<typeof setTimeout> | undefined;
	let wake = () => {};

	// The one clock stops while a device sleeps and the other may be set, so that
	// the one that says more has passed is believed. Too much costs a renewal.
	const age = () => Math.max(Date.now() - date, performance.now() - ticks) / second;
	const expiresIn = () => (grant ? Math.max(0, grant.expires_in - age()) : 0);
	const isFresh = () => !!grant && age() < Math.min(grant.renew_after, grant.expires_in);
	const report = (event: SessionEvent) => options.onEvent?.(event);
	const post = (message: Message) => {
		if (!closed) channel?.postMessage(message);
	};

	const take = (next: Grant, at: number) => {
		if (closed) return;
		pending = null; // whose key it was, its token is used
		grant = next;
		date = at;
		ticks = performance.now();
		over = false;
		schedule(next.renew_after - age());
		wake();
	};
	const schedule = (seconds: number) => {
		clearTimeout(timer);
		if (options.renewIdle === false) return;
		timer = setTimeout(renewDue, Math.min(Math.max(seconds, 1), hour) * second);
	};
	// A failure shows in the next fetch, which then waits for its own renewal.
	const renewDue = () => {
		if (isFresh()) schedule(grant!.renew_after - age()); // timers are early at times, or an hour was not enough
		else if (grant) renew().catch(() => {});
	};
	/** Stops using the token, but knows whose it is. */
	const expire = () => (grant &&= { ...grant, expires_in: 0 });
	const end = () => {
		clearTimeout(timer);
		grant = undefined;
		over = true;
		wake();
		report("signed out");
		options.onSignedOut?.();
	};

	// One tab at a time.

	const exclusively = <T>(f: () => Promise<T>) =>
		new Promise<T>((resolve, reject) => {
			const hold = () => {
				const done = f();
				const rest = () => sleep(linger);
				done.then(resolve, reject);
				return done.then(rest, rest);
			};
			(locks ? locks.request(name, hold) : Promise.reject()).catch(() => leased(name, hold));
		});

	const listen = ({ data }: MessageEvent<Message>) => {
		if ("grant" in data) {
			take(data.grant, data.at);
			report("received");
		} else if (grant?.session_id === data.over) {
			end();
		}
	};

	// The key outlives the page, so that the next one repeats the same request.
	// Where there is no storage, it lives as long as the page.

	const readKey = () => permitted(() => localStorage.getItem(name)) ?? pending;
	const keepKey = (key: string | null) => {
		pending = key;
		permitted(() => (key ? localStorage.setItem(name, key) : localStorage.removeItem(name)));
	};
	const drawKey = () => btoa(String.fromCharCode(...crypto.getRandomValues(new Uint8Array(24))));

	const send = (path: string, key?: string) =>
		fetch(new URL(path, base), {
			method: "POST",
			credentials: "include",
			cache: "no-store",
			signal: AbortSignal.timeout(requestTimeout),
			headers: { "Content-Type": "application/json", ...(key && { "Idempotency-Key": key }) },
			body: "{}",
		});

	/** Asks once. It returns how many seconds to wait before it is asked again, undefined if it need not be, NaN if it is not said. */
	const ask = async (): Promise<number | undefined> => {
		if (over || isFresh()) return undefined; // another tab was first
		const before = grant;
		const kept = readKey();
		const key = kept ?? drawKey();
		keepKey(key);
		let response: Response;
		let body: Partial<Grant> | null;
		try {
			response = await send("renew", key);
			body = response.ok ? await response.json() : null;
		} catch {
			return NaN; // no response, or not all of it: the key stays
		}
		switch (response.status) {
			case 200:
				if (!isGrant(body)) return NaN; // not our server: a hotel's login page
				keepKey(null);
				take(body, Date.now());
				post({ grant: body, at: date });
				report(kept ? "repeated" : "renewed");
				if (expiresIn() > 0) return undefined;
				return kept ? 0 : NaN; // what was lost for long has expired
			case 400: // the response to this key was not lost after all: its cookie is here
				keepKey(null);
				if (kept) return 0;
				break;
			case 401:
				keepKey(null);
				if (grant !== before) return undefined; // of the session before this one
				if (before) post({ over: before.session_id });
				end();
				return undefined;
			case 409: // renewed by another request, whose cookie and message are on their way
				keepKey(null);
				return retryAfter(response);
			case 429: // a limit of requests in front of the server
				return retryAfter(response);
		}
		if (response.status < 500) throw failure(response);
		return retryAfter(response);
	};

	const attempts = async () => {
		for (let backoff = second / 4; ; backoff = Math.min(2 * backoff, longestWait)) {
			if (closed) throw new Error("closed");
			const wait = await exclusively(ask);
			if (over) throw new SignedOutError("signed out");
			if (wait === undefined) return;
			if (wait > 0 || isNaN(wait)) report("waiting");
			// Several tabs wait: they should not all come back at the same moment.
			const ms = (isNaN(wait) ? backoff : wait * second) * (1 + Math.random() / 4);
			await new Promise<void>((resolve) => {
				const end = setTimeout(resolve, ms);
				wake = () => {
					clearTimeout(end);
					resolve();
				};
			});
		}
	};
	const renew = () => (renewal ??= attempts().finally(() => (renewal = undefined)));

	/** Returns a valid token. One that should be renewed, but is valid, is not waited for. */
	const ready = async (signal?: AbortSignal) => {
		signal?.throwIfAborted();
		if (over) throw new SignedOutError("signed out");
		if (expiresIn() > 0) renewDue();
		while (expiresIn() <= 0) await unlessAborted(renew(), signal);
		return grant!;
	};

	const authorized = async (input: RequestInfo | URL, init?: RequestInit) => {
		const request = new Request(input, init);
		if (!origins.has(new URL(request.url).origin)) {
			throw new TypeError("not one of the origins: " + request.url);
		}
		const again = request.clone();
		const used = await ready(request.signal);
		const response = await fetchWith(used, request);
		if (response.status !== 401) return response;
		await response.body?.cancel();
		if (grant === used) expire();
		return fetchWith(await ready(again.signal), again);
	};

	const nudge = () => {
		wake();
		renewDue();
	};
	channel?.addEventListener("message", listen);
	globalThis.addEventListener?.("online", nudge);

	return {
		fetch: authorized,
		token: async () => (await ready()).auth_token,
		renew: async () => {
			await renewal?.catch(() => {}); // it may be of the session before the login
			expire();
			over = false;
			return renew();
		},
		signOut: () =>
			exclusively(async () => {
				const response = await send("logout");
				if (!response.ok) throw failure(response);
				if (grant) post({ over: grant.session_id });
				end();
			}),
		close: () => {
			closed = true;
			grant = undefined;
			clearTimeout(timer);
			wake();
			channel?.close();
			globalThis.removeEventListener?.("online", nudge);
		},
		get id() {
			return grant?.session_id;
		},
		get expiresIn() {
			return expiresIn();
		},
	};
}

const isGrant = (body: Partial<Grant> | null): body is Grant =>
	!!body?.auth_token && !!body.session_id && body.expires_in! >= 0 && body.renew_after! >= 0;

/** The seconds of Retry-After, NaN if there are none. No timer can wait for all that it may say: an hour is enough. */
const retryAfter = (response: Response) => {
	const seconds = Math.min(parseInt(response.headers.get("Retry-After")!), hour);
	return seconds > 0 ? seconds : NaN;
};

const failure = (response: Response) => new Error(response.url + ": status " + response.status);

const fetchWith = (grant: Grant, request: Request) => {
	request.headers.set("Authorization", "Bearer " + grant.auth_token);
	return fetch(request);
};

const unlessAborted = (done: Promise<void>, signal?: AbortSignal) =>
	Promise.race([
		done,
		new Promise<never>((_, reject) =>
			signal?.addEventListener("abort", () => reject(signal.reason), { once: true }),
		),
	]);

/**
 * In place of a Web Lock: a lease in IndexedDB, whose transactions exclude each
 * other in all tabs. Without IndexedDB the server decides which tab renews.
 */
async function leased(name: string, hold: () => Promise<void>) {
	const release = await lend(name).catch(() => () => {});
	await hold();
	release();
}

async function lend(name: string) {
	const open = indexedDB.open(name);
	open.onupgradeneeded = () => open.result.createObjectStore(name);
	const db = await result(open);
	/** Makes the lease last for ms from now, if it is free or ours. */
	const take = async (ms: number, ours?: boolean) => {
		const store = db.transaction(name, "readwrite").objectStore(name);
		const left = (await result(store.get(0))) - Date.now();
		if (!ours && left > 0 && left <= lease) return false; // more is of a clock that was set back
		await result(store.put(Date.now() + ms, 0));
		return true;
	};
	while (!(await take(lease))) await sleep(linger);
	// The user may delete the site's data at any moment, and the lease with it.
	const keep = (ms: number) => take(ms, true).catch(() => {});
	const beat = setInterval(keep, lease / 4, lease);
	return () => {
		clearInterval(beat);
		keep(0).finally(() => db.close());
	};
}

const result = <T>(request: IDBRequest<T>) =>
	new Promise<T>((resolve, reject) => {
		request.onsuccess = () => resolve(request.result);
		request.onerror = () => reject(request.error);
	});
