import { createSession, SignedOutError } from "./renew.js";

const $ = (id) => document.getElementById(id);

const session = createSession({ url: "auth", onEvent: note, onSignedOut: () => show("login") });
globalThis.session = session; // to play with in the console

const texts = {
	renewed: "Renewed the session",
	repeated: "Repeated a renewal whose response was lost",
	received: "Another tab renewed; got its token",
	waiting: "No renewal yet: waiting to try again",
	"signed out": "No session: sign in",
};

let lifetime = 0; // of the present token, for the ring

function note(event) {
	const row = document.createElement("li");
	const time = document.createElement("time");
	const text = document.createElement("span");
	time.textContent = new Date().toLocaleTimeString([], { hour12: false });
	text.textContent = texts[event];
	row.className = event;
	row.append(time, text);
	$("log").querySelector(".muted")?.remove();
	$("log").prepend(row);
	while ($("log").children.length > 50) $("log").lastChild.remove();
	if (event === "signed out") return;
	lifetime = Math.max(session.expiresIn, 1);
	if (event !== "waiting") refresh();
}

function show(id) {
	for (const main of document.querySelectorAll("main")) main.hidden = main.id !== id;
	$("sign-out").hidden = id !== "session";
}

/** Calls the API. It says in the page what went wrong, and returns undefined. */
async function api(path, method = "GET") {
	try {
		const response = await session.fetch(path, { method });
		if (response.ok) return response.status === 204 ? null : await response.json();
		hint(`${method} ${path}: status ${response.status}`);
	} catch (error) {
		if (error instanceof SignedOutError) show("login");
		else hint(`${method} ${path}: ${error.message}`);
	}
	return undefined;
}

function hint(text) {
	$("hint").textContent = text;
}

async function refresh() {
	const [me, devices] = await Promise.all([api("api/session"), api("api/devices")]);
	if (!me || !devices) return;
	$("name").textContent = me.name;
	$("session-id").textContent = me.session_id;
	$("token-id").textContent = me.token_id;
	$("devices").replaceChildren(...devices.map(deviceRow));
	$("others").hidden = devices.length < 2;
	show("session");
}

function deviceRow(device) {
	const row = $("device").content.firstElementChild.cloneNode(true);
	const [name, about] = [row.querySelector("strong"), row.querySelector("span")];
	const button = row.querySelector("button");
	name.textContent = describe(device.useragent) + (device.current ? " (this one)" : "");
	const clock = (time) => new Date(time).toLocaleTimeString([], { hour12: false });
	about.textContent = `${device.ip}, signed in ${clock(device.signed_in)}, last seen ${clock(device.seen)}, renewed ${device.renewals} times`;
	button.hidden = device.current;
	button.addEventListener("click", async () => {
		await api("api/devices/" + device.id, "DELETE");
		await refresh();
	});
	return row;
}

function describe(agent) {
	const find = (names) => Object.entries(names).find(([part]) => agent.includes(part))?.[1];
	const browser = find({ "Edg/": "Edge", "OPR/": "Opera", Firefox: "Firefox", Chrome: "Chromium", Safari: "Safari" });
	const system = find({ Android: "Android", iPhone: "iPhone", iPad: "iPad", Windows: "Windows", "Mac OS": "macOS", Linux: "Linux" });
	return browser ? browser + (system ? " on " + system : "") : agent || "Unknown device";
}

setInterval(() => {
	const left = session.expiresIn;
	$("seconds").textContent = session.id ? Math.ceil(left) : "–";
	$("arc").style.strokeDashoffset = 100 - (100 * Math.min(left, lifetime)) / lifetime || 0;
}, 250);

$("login").addEventListener("submit", async (event) => {
	event.preventDefault();
	const error = $("login").querySelector(".error");
	const response = await fetch("login", {
		method: "POST",
		headers: { "Content-Type": "application/json" },
		body: JSON.stringify({ name: new FormData(event.target).get("name") }),
	}).catch(() => undefined);
	error.hidden = response?.ok === true;
	error.textContent = response ? "That did not work." : "The server cannot be reached.";
	if (response?.ok) await session.renew().catch((e) => hint(e.message));
});

$("call").addEventListener("click", async () => {
	const me = await api("api/session");
	if (me) hint(`The API says: ${me.name}, with token ${me.token_id}`);
});
$("renew").addEventListener("click", () => session.renew().catch((e) => hint(e.message)));
$("lose").addEventListener("click", async () => {
	if ((await api("demo/lose", "POST")) === null) hint("The response to the next renewal will be lost. Renew now, or wait.");
});
$("tabs").addEventListener("click", () => {
	const opened = Array.from({ length: 5 }, () => window.open(location.href)).filter(Boolean).length;
	hint(opened === 5 ? "" : `Your browser opened ${opened} of 5: allow this page to open pop-ups.`);
});
$("others").addEventListener("click", async () => {
	await api("api/devices", "DELETE");
	await refresh();
});
$("sign-out").addEventListener("click", () => session.signOut().catch((e) => hint(e.message)));

refresh();
