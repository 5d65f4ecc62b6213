// Pixorama in a browser: connects the board, the line under it and the chat with the streams of the server.
import { bytesOf, connect, Restarted, Resumed, StreamFault } from "./client/index.js";
import { onPaint, show, showAll, showAway } from "./board.js";
import { credentials, start } from "./chat.js";

// Strokes under way at once, and those that wait.
const AT_ONCE = 16;
const MOST = 4096;
const find = (id) => document.getElementById(id);
const tell = (text) => { find("word").textContent = text; };
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

const api = connect("v1/websocket", { credentials });

api.status.subscribe(({ state, ms }) => {
  const link = find("link");
  link.dataset.state = state;
  const seconds = Math.max(1, Math.round(ms / 1000));
  link.textContent = state === "waiting" ? `reconnecting in ${seconds} s` : state;
  showAway(state !== "connected");
  if (state !== "connected") find("status").textContent = "this server is away: reconnecting…";
});

/** Reads a stream that never ends, and calls it again should it end all the same. */
async function follow(method, take) {
  for (;;) {
    const call = api.call.pixorama[method]({}, { anonymous: true, resume: true });
    try {
      for await (const event of call.events()) take(event);
    } catch (error) {
      tell(error.message);
    }
    await pause(2000);
  }
}

function takeImage(event) {
  if (event.className === "ImageData") showAll(bytesOf(event.data.pixels));
  else if (event.className === "ImageUpdate") show(event.data.pixelIndex, event.data.colorIndex);
  // What follows a restart begins with the whole board, and a resumed stream lacks nothing.
  else if (event instanceof Restarted) find("board").dataset.again = "restarted";
  else if (event instanceof Resumed) find("board").dataset.again = event.resumed.by;
}

function takeStatus({ className, data: status }) {
  if (className !== "Status") return;
  const footer = find("status");
  footer.textContent = "";
  const add = (text, red) => {
    const part = document.createElement("span");
    part.textContent = text;
    if (red) part.className = "red";
    footer.append(part, " · ");
  };
  add(status.backend);
  add(status.connected ? "connected" : "cut off: painting here only", !status.connected);
  add(`${status.here} here`);
  const people = status.everywhere === 1 ? "person" : "people";
  add(`${status.everywhere} ${people} on ${status.servers} ${status.servers === 1 ? "server" : "servers"}`);
  add(`${status.gaps} ${status.gaps === 1 ? "gap" : "gaps"} seen and filled`);
  footer.lastChild.remove();
  if (status.trouble) footer.title = status.trouble; else footer.removeAttribute("title");
}

// The latest colour of each pixel that waits.
const waiting = new Map();
let underWay = 0;

async function paint() {
  underWay++;
  while (waiting.size > 0) {
    const [[pixelIndex, colorIndex]] = waiting;
    waiting.delete(pixelIndex);
    try {
      await api.call.pixorama.setPixel({ pixelIndex, colorIndex }, { anonymous: true });
    } catch (error) {
      // What was not painted is not on the board that is shown: nothing has to be taken back.
      if (error instanceof StreamFault && error.className === "TooFast") tell("That is too fast; the rest was not painted.");
      else tell(`Not painted: ${error.data?.why ?? error.message}`);
      waiting.clear();
    }
  }
  underWay--;
}

onPaint((pixelIndex, colorIndex) => {
  if (waiting.size >= MOST) return;
  waiting.set(pixelIndex, colorIndex);
  if (underWay < AT_ONCE) paint();
});

follow("imageUpdates", takeImage);
follow("status", takeStatus);
start(api, tell);
