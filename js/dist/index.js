/*! @jwtrenew/browser, Apache-2.0 */
export class SignedOutError extends Error {
    name = "SignedOutError";
}
const second = 1000;
const requestTimeout = 15 * second;
const longestWait = 30 * second;
const linger = 50;
const lease = 2 * second;
const hour = 3600;
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const permitted = (use) => {
    try {
        return use();
    }
    catch {
        return null;
    }
};
export function createSession(options) {
    const page = globalThis.location?.href;
    const base = new URL(options.url, page);
    base.pathname = base.pathname.replace(/\/?$/, "/");
    const origins = new Set([base.origin, page && new URL(page).origin, ...(options.origins ?? [])]);
    const name = "renew:" + base.href;
    const locks = globalThis.navigator?.locks;
    const channel = permitted(() => new BroadcastChannel(name));
    let grant;
    let date = 0;
    let ticks = 0;
    let over = false;
    let closed = false;
    let pending = null;
    let renewal;
    let timer;
    let wake = () => { };
    const age = () => Math.max(Date.now() - date, performance.now() - ticks) / second;
    const expiresIn = () => (grant ? Math.max(0, grant.expires_in - age()) : 0);
    const isFresh = () => !!grant && age() < Math.min(grant.renew_after, grant.expires_in);
    const report = (event) => options.onEvent?.(event);
    const post = (message) => {
        if (!closed)
            channel?.postMessage(message);
    };
    const take = (next, at) => {
        if (closed)
            return;
        pending = null;
        grant = next;
        date = at;
        ticks = performance.now();
        over = false;
        schedule(next.renew_after - age());
        wake();
    };
    const schedule = (seconds) => {
        clearTimeout(timer);
        if (options.renewIdle === false)
            return;
        timer = setTimeout(renewDue, Math.min(Math.max(seconds, 1), hour) * second);
    };
    const renewDue = () => {
        if (isFresh())
            schedule(grant.renew_after - age());
        else if (grant)
            renew().catch(() => { });
    };
    const expire = () => (grant &&= { ...grant, expires_in: 0 });
    const end = () => {
        clearTimeout(timer);
        grant = undefined;
        over = true;
        wake();
        report("signed out");
        options.onSignedOut?.();
    };
    const exclusively = (f) => new Promise((resolve, reject) => {
        const hold = () => {
            const done = f();
            const rest = () => sleep(linger);
            done.then(resolve, reject);
            return done.then(rest, rest);
        };
        (locks ? locks.request(name, hold) : Promise.reject()).catch(() => leased(name, hold));
    });
    const listen = ({ data }) => {
        if ("grant" in data) {
            take(data.grant, data.at);
            report("received");
        }
        else if (grant?.session_id === data.over) {
            end();
        }
    };
    const readKey = () => permitted(() => localStorage.getItem(name)) ?? pending;
    const keepKey = (key) => {
        pending = key;
        permitted(() => (key ? localStorage.setItem(name, key) : localStorage.removeItem(name)));
    };
    const drawKey = () => btoa(String.fromCharCode(...crypto.getRandomValues(new Uint8Array(24))));
    const send = (path, key) => fetch(new URL(path, base), {
        method: "POST",
        credentials: "include",
        cache: "no-store",
        signal: AbortSignal.timeout(requestTimeout),
        headers: { "Content-Type": "application/json", ...(key && { "Idempotency-Key": key }) },
        body: "{}",
    });
    const ask = async () => {
        if (over || isFresh())
            return undefined;
        const before = grant;
        const kept = readKey();
        const key = kept ?? drawKey();
        keepKey(key);
        let response;
        let body;
        try {
            response = await send("renew", key);
            body = response.ok ? await response.json() : null;
        }
        catch {
            return NaN;
        }
        switch (response.status) {
            case 200:
                if (!isGrant(body))
                    return NaN;
                keepKey(null);
                take(body, Date.now());
                post({ grant: body, at: date });
                report(kept ? "repeated" : "renewed");
                if (expiresIn() > 0)
                    return undefined;
                return kept ? 0 : NaN;
            case 400:
                keepKey(null);
                if (kept)
                    return 0;
                break;
            case 401:
                keepKey(null);
                if (grant !== before)
                    return undefined;
                if (before)
                    post({ over: before.session_id });
                end();
                return undefined;
            case 409:
                keepKey(null);
                return retryAfter(response);
            case 429:
                return retryAfter(response);
        }
        if (response.status < 500)
            throw failure(response);
        return retryAfter(response);
    };
    const attempts = async () => {
        for (let backoff = second / 4;; backoff = Math.min(2 * backoff, longestWait)) {
            if (closed)
                throw new Error("closed");
            const wait = await exclusively(ask);
            if (over)
                throw new SignedOutError("signed out");
            if (wait === undefined)
                return;
            if (wait > 0 || isNaN(wait))
                report("waiting");
            const ms = (isNaN(wait) ? backoff : wait * second) * (1 + Math.random() / 4);
            await new Promise((resolve) => {
                const end = setTimeout(resolve, ms);
                wake = () => {
                    clearTimeout(end);
                    resolve();
                };
            });
        }
    };
    const renew = () => (renewal ??= attempts().finally(() => (renewal = undefined)));
    const ready = async (signal) => {
        signal?.throwIfAborted();
        if (over)
            throw new SignedOutError("signed out");
        if (expiresIn() > 0)
            renewDue();
        while (expiresIn() <= 0)
            await unlessAborted(renew(), signal);
        return grant;
    };
    const authorized = async (input, init) => {
        const request = new Request(input, init);
        if (!origins.has(new URL(request.url).origin)) {
            throw new TypeError("not one of the origins: " + request.url);
        }
        const again = request.clone();
        const used = await ready(request.signal);
        const response = await fetchWith(used, request);
        if (response.status !== 401)
            return response;
        await response.body?.cancel();
        if (grant === used)
            expire();
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
            await renewal?.catch(() => { });
            expire();
            over = false;
            return renew();
        },
        signOut: () => exclusively(async () => {
            const response = await send("logout");
            if (!response.ok)
                throw failure(response);
            if (grant)
                post({ over: grant.session_id });
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
const isGrant = (body) => !!body?.auth_token && !!body.session_id && body.expires_in >= 0 && body.renew_after >= 0;
const retryAfter = (response) => {
    const seconds = Math.min(parseInt(response.headers.get("Retry-After")), hour);
    return seconds > 0 ? seconds : NaN;
};
const failure = (response) => new Error(response.url + ": status " + response.status);
const fetchWith = (grant, request) => {
    request.headers.set("Authorization", "Bearer " + grant.auth_token);
    return fetch(request);
};
const unlessAborted = (done, signal) => Promise.race([
    done,
    new Promise((_, reject) => signal?.addEventListener("abort", () => reject(signal.reason), { once: true })),
]);
async function leased(name, hold) {
    const release = await lend(name).catch(() => () => { });
    await hold();
    release();
}
async function lend(name) {
    const open = indexedDB.open(name);
    open.onupgradeneeded = () => open.result.createObjectStore(name);
    const db = await result(open);
    const take = async (ms, ours) => {
        const store = db.transaction(name, "readwrite").objectStore(name);
        const left = (await result(store.get(0))) - Date.now();
        if (!ours && left > 0 && left <= lease)
            return false;
        await result(store.put(Date.now() + ms, 0));
        return true;
    };
    while (!(await take(lease)))
        await sleep(linger);
    const keep = (ms) => take(ms, true).catch(() => { });
    const beat = setInterval(keep, lease / 4, lease);
    return () => {
        clearInterval(beat);
        keep(0).finally(() => db.close());
    };
}
const result = (request) => new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
});
