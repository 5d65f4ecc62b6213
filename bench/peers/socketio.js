// Two servers of Socket.IO on its Redis adapter: one emits, the other counts what the adapter hands to its sockets.
//
//     node socketio.js hear|post URL COUNT
//
// Says `ready`; the one that posts begins with a line of its input; the one that hears says `done` at the last. Both end with
// their input.
const { createAdapter } = require("@socket.io/redis-adapter");
const { createClient } = require("redis");
const { Server } = require("socket.io");
const { Adapter } = require("socket.io-adapter");

const [role, url, count] = process.argv.slice(2);
const IN_FLIGHT = 256;

async function main() {
  let heard = 0;
  const hear = () => {
    heard += 1;
    if (heard === Number(count)) console.log("done");
  };
  if (role === "hear") Adapter.prototype.broadcast = hear; // no client has to be served
  const [pub, sub] = [createClient({ url }), createClient({ url })];
  await Promise.all([pub.connect(), sub.connect()]);
  const io = new Server();
  io.adapter(createAdapter(pub, sub));
  await sub.ping(); // it has subscribed
  process.stdin.on("end", () => process.exit(0));
  process.stdin.once("data", () => post(io, pub));
  console.log("ready");
}

async function post(io, pub) {
  const text = "x".repeat(64);
  for (let posted = 1; posted <= Number(count); posted += 1) {
    io.emit("news", text);
    if (posted % IN_FLIGHT === 0) await pub.ping();
  }
}

main();
