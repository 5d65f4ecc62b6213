// The board on the page: shows pixels, and says where somebody paints, by mouse, pen, finger or keyboard.

export const SIDE = 64;
const COLOURS = [
  ["black", "#1c1917"], ["grey", "#78716c"], ["silver", "#d6d3d1"], ["brown", "#78350f"],
  ["red", "#dc2626"], ["orange", "#f97316"], ["yellow", "#facc15"], ["lime", "#84cc16"],
  ["green", "#15803d"], ["teal", "#0d9488"], ["sky", "#38bdf8"], ["blue", "#2563eb"],
  ["violet", "#7c3aed"], ["pink", "#ec4899"], ["peach", "#fed7aa"], ["white", "#ffffff"],
];
const find = (id) => document.getElementById(id);
const canvas = find("board");
const paper = canvas.getContext("2d");

let colour = 4;
let cursor = { x: SIDE / 2, y: SIDE / 2 };
let pixels = new Uint8Array(SIDE * SIDE).fill(15);
let painted = () => {};

function draw(index) {
  paper.fillStyle = (COLOURS[pixels[index]] ?? COLOURS[15])[1];
  paper.fillRect(index % SIDE, Math.floor(index / SIDE), 1, 1);
}

/** Shows the whole board, a byte for each pixel. */
export function showAll(bytes) {
  pixels = Uint8Array.from(bytes);
  for (let index = 0; index < pixels.length; index++) draw(index);
}

/** Shows one pixel. */
export function show(index, number) {
  pixels[index] = number;
  draw(index);
}

/** Greys the board, as it may be old. */
export function showAway(away) {
  canvas.classList.toggle("away", away);
}

/** Calls `listener` with the index of a pixel and a colour when somebody paints. */
export function onPaint(listener) {
  painted = listener;
}

function paint(x, y) {
  if (x < 0 || y < 0 || x >= SIDE || y >= SIDE) return;
  const index = y * SIDE + x;
  if (pixels[index] !== colour) painted(index, colour);
}

function showCursor(shown) {
  const mark = find("cursor");
  mark.hidden = !shown;
  mark.style.left = `${(cursor.x / SIDE) * 100}%`;
  mark.style.top = `${(cursor.y / SIDE) * 100}%`;
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

// A stroke follows the pointer, with every pixel between two of its places.
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

showAll(pixels);
