/** The client of the streams protocol: what a program imports. */
export { connect } from "./client.js";
export {
  CallClosed,
  CallRefused,
  ConnectFailed,
  ConnectTimedOut,
  IdleTimeout,
  SocketLost,
  StreamFault,
  StreamsError,
} from "./errors.js";
export { Gap, Restarted, Resumed } from "./events.js";
export { Input } from "./input.js";
export { StreamingEndpoints } from "./endpoints.js";
export { ReconnectingEndpoints } from "./reconnecting.js";
export { byteData, bytesOf, typed } from "./values.js";
