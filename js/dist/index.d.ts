/*! @jwtrenew/browser, Apache-2.0 */
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
export declare class SignedOutError extends Error {
    name: string;
}
/** createSession makes the client of one session. It sends nothing until it is asked for a token. */
export declare function createSession(options: SessionOptions): Session;
