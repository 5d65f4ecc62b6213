// Pixorama in a browser: shows the board, sends strokes, and reconnects by itself.
"use strict";

const SIDE = 64;
const COLOURS = [
  ["black", "#1c1917"], ["grey", "#78716c"], ["silver", "#d6d3d1"], ["brown", "#78350f"],
  ["red", "#dc2626"], ["orange", "#f97316"], ["yellow", "#facc15"], ["lime", "#84cc16"],
  ["green", "#15803d"], ["teal", "#0d9488"], ["sky", "#38bdf8"], ["blue", "#2563eb"],
  ["violet", "#7c3aed"], ["pink", "#ec4899"], ["peach", "#fed7aa"], ["white", "#ffffff"],
];
const find = (id) => document.getElementById(id);
const canvas = find("board");
const paper = canvas.getContext("2d");

let socket = null;
let wait = 0; // milliseconds until the next attempt
let colour = 4;
let cursor = { x: SIDE / 2, y: SIDE / 2 };
let pixels = new Array(SIDE * SIDE).fill(15);

// What this tab remembers: a reload, or a server that restarts, signs nobody out.
const memory = {
  get me() { try { return JSON.parse(sessionStorage.getItem("me")); } catch { return null; } },
  set me(value) { sessionStorage.setItem("me", JSON.stringify(value)); },
};

function draw(index) {
  paper.fillStyle = COLOURS[pixels[index]][1];
  paper.fillRect(index % SIDE, Math.floor(index / SIDE), 1, 1);
}

function drawAll() {
  for (let index = 0; index < pixels.length; index++) draw(index);
}

function showCursor(shown) {
  const mark = find("cursor");
  mark.hidden = !shown;
  mark.style.left = `${(cursor.x / SIDE) * 100}%`;
  mark.style.top = `${(cursor.y / SIDE) * 100}%`;
}

function say(text) { find("word").textContent = text; }

function send(wish) {
  if (socket && socket.readyState === WebSocket.OPEN) {
    socket.send(JSON.stringify(wish));
    return true;
  }
  say("Not connected: reconnecting…");
  return false;
}

function paint(x, y) {
  if (x < 0 || y < 0 || x >= SIDE || y >= SIDE) return;
  if (!memory.me) {
    say("Sign in with any name to paint.");
    find("name").focus();
    return;
  }
  if (pixels[y * SIDE + x] === colour) return;
  send({ do: "paint", x, y, colour });
}

function signedIn(me) {
  memory.me = me;
  find("sign-in").hidden = Boolean(me);
  find("signed-in").hidden = !me;
  find("who").textContent = me ? me.name : "";
}

function showStatus(status) {
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

const HEAR = {
  "board": (word) => {
    pixels = Array.from(word.pixels, (digit) => parseInt(digit, 16));
    drawAll();
  },
  "pixel": (word) => {
    pixels[word.y * SIDE + word.x] = word.colour;
    draw(word.y * SIDE + word.x);
  },
  "status": (word) => showStatus(word.status),
  "signed-in": (word) => {
    signedIn({ name: word.name, since: word.since });
    say("");
    canvas.focus();
  },
  "signed-out": (word) => {
    signedIn(null);
    say(word.why);
  },
  "refused": (word) => say(word.why),
};

function connect() {
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  socket = new WebSocket(`${scheme}://${location.host}/live`);
  socket.onopen = () => {
    wait = 0;
    canvas.classList.remove("away");
    say("");
    if (memory.me) send({ do: "sign-in", name: memory.me.name, since: memory.me.since });
  };
  socket.onmessage = (event) => {
    const word = JSON.parse(event.data);
    const hear = HEAR[word.is];
    if (hear) hear(word);
  };
  socket.onclose = () => {
    canvas.classList.add("away");
    find("status").textContent = "this server is away: reconnecting…";
    // Twice as long each time, and never all pages at once.
    wait = Math.min(8000, wait ? wait * 2 : 250);
    setTimeout(connect, wait * (0.5 + Math.random()));
  };
}

function choose(number) {
  colour = number;
  for (const [index, button] of [...find("palette").children].entries()) {
    button.setAttribute("aria-checked", String(index === number));
    button.tabIndex = index === number ? 0 : -1;
  }
}

COLOURS.forEach(([name, value], index) => {
  const button = document.createElement("button");
  button.type = "button";
  button.title = name;
  button.style.background = value;
  button.setAttribute("role", "radio");
  button.setAttribute("aria-label", name);
  button.onclick = () => choose(index);
  find("palette").append(button);
});
find("palette").onkeydown = (event) => {
  const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  if (!step) return;
  event.preventDefault();
  choose((colour + step + COLOURS.length) % COLOURS.length);
  find("palette").children[colour].focus();
};
choose(colour);

// Mouse, pen and finger: a stroke follows the pointer, with every pixel between two of its places.
let last = null;
function place(event) {
  const box = canvas.getBoundingClientRect();
  return {
    x: Math.floor(((event.clientX - box.left) / box.width) * SIDE),
    y: Math.floor(((event.clientY - box.top) / box.height) * SIDE),
  };
}
canvas.onpointerdown = (event) => {
  canvas.setPointerCapture(event.pointerId);
  showCursor(false);
  last = place(event);
  paint(last.x, last.y);
};
canvas.onpointermove = (event) => {
  if (!last) return;
  const now = place(event);
  const steps = Math.max(Math.abs(now.x - last.x), Math.abs(now.y - last.y));
  for (let step = 1; step <= steps; step++) {
    paint(Math.round(last.x + ((now.x - last.x) * step) / steps), Math.round(last.y + ((now.y - last.y) * step) / steps));
  }
  last = now;
};
canvas.onpointerup = canvas.onpointercancel = () => { last = null; };

canvas.onfocus = () => showCursor(canvas.matches(":focus-visible"));
canvas.onblur = () => showCursor(false);
canvas.onkeydown = (event) => {
  const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  if (step) {
    cursor = { x: (cursor.x + step[0] + SIDE) % SIDE, y: (cursor.y + step[1] + SIDE) % SIDE };
    showCursor(true);
  } else if (event.key === " " || event.key === "Enter") {
    paint(cursor.x, cursor.y);
  } else if (/^[0-9a-f]$/i.test(event.key) && !event.ctrlKey && !event.metaKey && !event.altKey) {
    choose(parseInt(event.key, 16));
  } else {
    return;
  }
  event.preventDefault();
};

find("sign-in").onsubmit = (event) => {
  event.preventDefault();
  send({ do: "sign-in", name: find("name").value, since: null });
};
find("sign-out").onclick = () => send({ do: "sign-out-everywhere" });

signedIn(memory.me);
drawAll();
connect();
