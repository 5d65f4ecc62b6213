/** The errors of calls and of the socket. No text of a credential is ever in one. */

/** The base of all errors of this package. */
export class StreamsError extends Error {
  constructor(message, options) {
    super(message, options);
    this.name = new.target.name;
  }
}

/** The method, or the source of an input, failed with a typed fault: a class name and its data. */
export class StreamFault extends StreamsError {
  constructor(className, data) {
    super(`the call failed with ${className}`);
    this.className = className;
    this.data = data;
  }
}

/** The server refused to open the call. */
export class CallRefused extends StreamsError {
  constructor(res) {
    super(`the server refused the call: ${res}`);
    this.res = res;
  }
}

/**
 * The call was closed before its method was done. `why` and `again` are undefined if the server did not
 * say them; a call closed by this client says them too.
 */
export class CallClosed extends StreamsError {
  constructor(why, again) {
    super(why === undefined ? "the call was closed with an error" : `the call was closed: ${why}`);
    this.why = why;
    this.again = again;
  }
}

/** The socket was closed or lost. `code` is the close code, where there was one. */
export class SocketLost extends StreamsError {
  constructor(message, code) {
    super(message);
    this.code = code;
  }
}

/** The socket could not be opened, or the provider of credentials failed (see `cause`). */
export class ConnectFailed extends StreamsError {}

/** The server did not answer the first ping in time. */
export class ConnectTimedOut extends StreamsError {}

/** Nothing arrived for the idle time. */
export class IdleTimeout extends StreamsError {}
