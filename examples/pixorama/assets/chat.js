// The chat on the page: signing in and out, and one call that hears and says for as long as somebody is signed in.
import { CallClosed, CallRefused, Gap, Input, Restarted, StreamFault, typed } from "./client/index.js";

const LINES = 200;
const find = (id) => document.getElementById(id);

// What this tab remembers: a reload, or a server that restarts, signs nobody out.
const memory = {
  get me() { try { return JSON.parse(sessionStorage.getItem("me")); } catch { return null; } },
  set me(value) { sessionStorage.setItem("me", JSON.stringify(value)); },
};

let outgoing = null;

/** For `connect`: asked at every attempt. */
export function credentials() {
  return memory.me ? `Bearer ${memory.me.token}` : null;
}

/** Starts the chat; `tell` shows a sentence to the user. */
export function start(api, tell) {
  find("sign-in").onsubmit = (event) => {
    event.preventDefault();
    signIn(api, tell, find("name").value.trim()).catch((error) => tell(`Not signed in: ${error.message}`));
  };
  find("sign-out").onclick = () =>
    signOutEverywhere(tell).catch((error) => tell(`Not signed out: ${error.message}`));
  find("say").onsubmit = (event) => {
    event.preventDefault();
    say(tell, find("text").value.trim());
  };
  show();
  if (memory.me) talk(api, tell);
}

function show() {
  const { me } = memory;
  find("sign-in").hidden = Boolean(me);
  find("signed-in").hidden = !me;
  find("who").textContent = me ? me.name : "";
}

function line(name, text) {
  const item = document.createElement("li");
  const who = document.createElement("strong");
  who.textContent = name;
  item.append(who, " ", text);
  if (!name) item.className = "note";
  const said = find("said");
  said.append(item);
  while (said.children.length > LINES) said.firstChild.remove();
  said.scrollTop = said.scrollHeight;
}

async function signIn(api, tell, name) {
  const answer = await fetch("sign-in", { method: "POST", body: name });
  const text = await answer.text();
  if (!answer.ok) throw new Error(text);
  memory.me = { name, token: text };
  tell("");
  show();
  find("text").focus();
  talk(api, tell);
}

/** The server ends the calls of this user, here and everywhere, by which `talk` gets to know. */
async function signOutEverywhere(tell) {
  const headers = { authorization: credentials() };
  const answer = await fetch("sign-out-everywhere", { method: "POST", headers });
  if (answer.status === 401) signedOut(tell, "You were signed out before.");
  else if (!answer.ok) throw new Error(await answer.text());
}

function signedOut(tell, why) {
  memory.me = null;
  find("said").textContent = "";
  show();
  tell(why);
}

function say(tell, text) {
  if (!text) return;
  try {
    outgoing.send(typed("Say", { text }));
    find("text").value = "";
  } catch {
    tell("Not said: wait a moment.");
  }
}

/** In the room until somebody signs out. */
async function talk(api, tell) {
  const { token } = memory.me;
  while (memory.me?.token === token) {
    outgoing = new Input(8);
    const call = api.call.chat.room({ room: "board" }, { inputs: { outgoing }, resume: true });
    try {
      for await (const event of call.events()) {
        if (event.className === "Said") line(event.data.name, event.data.text);
        else if (event instanceof Gap || event instanceof Restarted) line("", "some words may be missing here");
      }
    } catch (error) {
      const why = over(error);
      if (why !== null) {
        // Somebody may have signed in anew meanwhile.
        if (memory.me?.token === token) signedOut(tell, why);
        return;
      }
      tell(error instanceof StreamFault ? `Not said: ${error.data.why}` : "The chat was interrupted.");
    }
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
}

/** Why the sign-in is over, in a sentence; null if it is not. */
function over(error) {
  if (error instanceof CallRefused) return "Your sign-in is not good any more: sign in again.";
  if (!(error instanceof CallClosed) || error.again !== "signin") return null;
  if (error.why === "revoked") return "You were signed out everywhere.";
  return "This server cannot tell whether you are still signed in: sign in again.";
}
