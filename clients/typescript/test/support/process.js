/** The project's own server, as a process: `streams-test-server`, an example of `broker-streams`. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { within } from "./eventually.js";

const REMEDY =
  "BROKER_STREAMS_TEST_SERVER has to be the path of the server for tests. `cargo xtask test` sets it. By hand: " +
  "cargo build -p broker-streams --features endpoints --example streams-test-server, and then it is " +
  "target/debug/examples/streams-test-server, below the root of the repository";

/** Starts a server at `address`; it ends with this process, whatever happens. */
export async function start(address = "127.0.0.1:0", ...flags) {
  const program = process.env.BROKER_STREAMS_TEST_SERVER;
  if (!program) throw new Error(REMEDY);
  const child = spawn(program, [address, ...flags], { stdio: ["pipe", "pipe", "inherit"] });
  // A test that has failed may leave it behind. Nobody waits for it then: it ends with this process.
  for (const handle of [child, child.stdin, child.stdout]) handle.unref();
  const ended = once(child, "exit");
  const failed = once(child, "error").then(([error]) => {
    throw new Error(REMEDY, { cause: error });
  });
  const line = once(createInterface({ input: child.stdout }), "line");
  const over = ended.then(() => {
    throw new Error("the server ended before it printed its address");
  });
  over.catch(() => {});
  failed.catch(() => {});
  const [bound] = await within(Promise.race([line, failed, over]), "the address of the server");
  const signal = async (name) => {
    child.kill(name);
    await within(ended, "the end of the server");
  };
  return {
    address: bound,
    url: `ws://${bound}/v1/websocket`,
    endpoints: `ws://${bound}/websocket`,
    /** Ends it without a word. */
    kill: () => signal("SIGKILL"),
    /** Stops it in order. */
    async stop() {
      child.stdin.end();
      await within(ended, "the end of the server");
    },
    /** Lets it sleep, with its sockets open. */
    freeze: () => child.kill("SIGSTOP"),
  };
}
