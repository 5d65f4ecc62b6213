/** A reporter for `node --test`: the lines of Rust's test harness, which `cargo xtask test` counts. */
import { inspect } from "node:util";

const outcome = ({ skip, todo }) => {
  const why = skip ?? todo;
  if (why === undefined || why === false) return "ok";
  return why === true ? "ignored" : `ignored, ${why}`;
};
const line = (name) => name.replaceAll(/\s+/g, " ");

export default async function* report(events) {
  for await (const { type, data } of events) {
    switch (type) {
      case "test:pass":
        yield `test ${line(data.name)} ... ${outcome(data)}\n`;
        break;
      case "test:fail":
        yield `test ${line(data.name)} ... FAILED\n`;
        yield `${data.file}:${data.line}\n${inspect(data.details.error.cause ?? data.details.error)}\n`;
        break;
      case "test:diagnostic":
        // What a test says of itself; the sums at the end have no file.
        if (data.file !== undefined) yield `    ${line(data.message)}\n`;
        break;
      case "test:stdout":
      case "test:stderr":
        yield data.message;
        break;
    }
  }
}
