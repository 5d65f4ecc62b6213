/** Types of the client. `Api` describes a server: endpoints, and in each the methods with what they take. */

/** A value on the wire. */
export interface Value<Name extends string = string, Data = unknown> {
  className: Name;
  data: Data;
}
export type Int = Value<"int", number>;
export type Double = Value<"double", number>;
export type Bool = Value<"bool", boolean>;
export type Text = Value<"String", string>;
export type Null = Value<"null", null>;
export type ByteData = Value<"ByteData", string>;

/** A value of a class: for models, and for kinds that a plain value cannot name. */
export function typed<Name extends string, Data>(className: Name, data: Data): Value<Name, Data>;
/** Bytes as a value. */
export function byteData(bytes: Uint8Array): ByteData;
/** The bytes of a text `decode('…', 'base64')`. Throws a `TypeError` for any other. */
export function bytesOf(text: unknown): Uint8Array;

/** Values are missing: `n` of them, or null if the server does not know how many. `c` is the cause. */
export class Gap {
  readonly gap: { n: number | null; c: string | undefined };
  readonly className?: undefined;
}
/**
 * For each input how many values were sent of which nobody knows whether the method took them. Null with a
 * server that does not acknowledge.
 */
export type Unacknowledged = Record<string, number | null>;
/** The call was opened anew: what follows knows nothing of what was before. */
export class Restarted {
  readonly restarted: { unacknowledged: Unacknowledged };
  readonly className?: undefined;
}
/** The call goes on: exactly, or as a new call after the last cursor. */
export class Resumed {
  readonly resumed: { by: "exact" | "cursor"; unacknowledged: Unacknowledged };
  readonly className?: undefined;
}

/**
 * A call whose method gives a stream. It has one reader. Awaiting it waits for a single value and the end, so
 * an `async` function that returns one would read it: return `values()` or `events()` there.
 */
export interface Stream<V extends Value = Value> extends AsyncIterable<V>, PromiseLike<V | undefined> {
  /** The values. `break`, `return()` and the signal end the call. */
  [Symbol.asyncIterator](): AsyncIterableIterator<V>;
  /** The same as iterating over the call itself. */
  values(): AsyncIterableIterator<V>;
  /** The values, and between them what happened to the call. */
  events(): AsyncIterableIterator<V | Gap | Restarted | Resumed>;
  /** Ends the call. What was not read is dropped. */
  cancel(): void;
  /** The last cursor that was read. */
  readonly cursor: string | undefined;
}

/** A call whose method gives one value, or none. */
export interface Single<V> extends Promise<V> {
  /** Ends the call: it resolves to undefined. */
  cancel(): void;
}

interface Readable<V> {
  getReader(): {
    read(): Promise<{ done: boolean; value?: V }>;
    cancel(reason?: unknown): Promise<void>;
  };
}

type Plain<V> = V extends Int | Double
  ? number
  : V extends Bool
    ? boolean
    : V extends Text
      ? string
      : V extends Null
        ? null
        : V extends ByteData
          ? Uint8Array
          : never;
/** What feeds an input. */
export type Source<V> =
  | AsyncIterable<V | Plain<V>>
  | Iterable<V | Plain<V>>
  | Readable<V | Plain<V>>;
type Sources<Inputs> = {
  [Name in keyof Inputs]: NonNullable<Inputs[Name]> extends AsyncIterable<infer V> ? Source<V> : never;
};

export interface CallOptions {
  /** Ends the call when it is aborted; the reader gets the signal's reason as an error. */
  signal?: AbortSignal;
  /** Go on after a loss of the socket: exactly, by cursor, or anew, whichever is possible. */
  resume?: boolean;
  /** The most milliseconds that the call may last. */
  deadline?: number;
  /** Send no credentials. */
  anonymous?: boolean;
  /** Begin after this cursor, for methods that know some. */
  cursor?: string;
  /** The trace of which the call is a part, as in the header of this name. */
  traceparent?: string;
}
type WithInputs<Inputs> = {} extends Inputs
  ? [options?: CallOptions & { inputs?: Sources<Inputs> }]
  : [options: CallOptions & { inputs: Sources<Inputs> }];

type Result<R> = R extends Promise<infer V> ? Single<V> : R;
type Method<F> = F extends (...given: infer Given) => infer R
  ? Given extends []
    ? (args?: Record<string, never>, options?: CallOptions) => Result<R>
    : Given extends [infer Args]
      ? (args: Args, options?: CallOptions) => Result<R>
      : Given extends [infer Args, (infer Inputs)?]
        ? (args: Args, ...options: WithInputs<Inputs>) => Result<R>
        : never
  : never;

/** What a client without an `Api` can do: everything, unchecked. */
export type AnyCall = Stream<Value<string, any>> & Single<any>;
export type Calls<Api> = unknown extends Api
  ? Record<string, Record<string, (args?: object, options?: AnyCallOptions) => AnyCall>>
  : { [Endpoint in keyof Api]: { [Name in keyof Api[Endpoint]]: Method<Api[Endpoint][Name]> } };
export type AnyCallOptions = CallOptions & { inputs?: Record<string, Source<any>> };

export type State =
  | { readonly state: "connected" }
  | { readonly state: "connecting" }
  | { readonly state: "waiting"; readonly ms: number }
  | { readonly state: "disconnected"; readonly why?: StreamsError };
export interface Status {
  readonly current: State;
  /** Calls `listener` now and at each change. Gives the function that ends this. */
  subscribe(listener: (state: State) => void): () => void;
}

export interface Client<Api> {
  /** `api.call.<endpoint>.<method>(args, options)`; of a module, `api.call["module.endpoint"]`. */
  readonly call: Calls<Api>;
  readonly status: Status;
  /** The same as `call`, by names and without types. */
  open(endpoint: string, method: string, args?: object, options?: AnyCallOptions): AnyCall;
  /**
   * Asks the provider and gives its credential to the calls of the socket. Resolves to the server's answer,
   * or to undefined if there is no socket that can: the next call asks the provider anyway. `until` is when
   * the credential ends, in milliseconds since 1970. Rejects if the server does not answer for 10 s.
   */
  refreshCredentials(): Promise<{ res: string; until: number | undefined } | undefined>;
  /** Ends all calls with `SocketLost` and closes the socket. A call after this opens a new one. */
  close(reason?: string): void;
}

type Credential = string | null | undefined;
/**
 * Where credentials come from, such as `Bearer …`. A function is asked at every attempt; after a refusal it
 * is asked with `refused`, and the call is tried once more if it then gives another one.
 */
export type CredentialSource =
  | string
  | ((attempt: { refused: boolean }) => Credential | Promise<Credential>)
  | { get(): Credential | Promise<Credential>; refresh?(): boolean | Promise<boolean> };

export interface Testing {
  setTimeout?(run: () => void, ms: number): unknown;
  clearTimeout?(timer: any): void;
  now?(): number;
  random?(): number;
  listen?(type: "online" | "offline" | "visibilitychange", listener: () => void): () => void;
  visible?(): boolean;
}

export interface ConnectOptions {
  credentials?: CredentialSource;
  /** Tell the server to authenticate by the cookies of the upgrade. */
  cookies?: boolean;
  /** Cut the socket when the browser reports that it is offline. */
  closeWhenOffline?: boolean;
  /** How many values of a call may be here unread, with a server that knows windows. 64. */
  window?: number;
  /** With any server, how much may be here unread before the call is closed. 65,536 and 16 Mi characters. */
  maxQueued?: { values?: number; chars?: number };
  /** From the attempt to the server's first pong. 5,000 ms. */
  connectTimeout?: number;
  /** 20,000 ms. */
  pingInterval?: number;
  /** Without a frame for so long the socket is given up. 40,000 ms. */
  idleTimeout?: number;
  /** In place of the global one. */
  WebSocket?: unknown;
  testing?: Testing;
}
/** A client of the server at `url`. Nothing is opened before the first call. */
export function connect<Api = unknown>(url: string | URL, options?: ConnectOptions): Client<Api>;

/** An input that is fed by hand. */
export class Input<V = unknown> implements AsyncIterable<V> {
  /** At most `limit` values wait to be sent. 256. */
  constructor(limit?: number);
  readonly open: boolean;
  /** Throws a `RangeError` if `limit` values wait, and an `Error` after the end. */
  send(value: V): void;
  end(): void;
  /** Fails the input; a `StreamFault` reaches the method typed. */
  fail(error: unknown): void;
  [Symbol.asyncIterator](): AsyncIterator<V>;
}

export class StreamsError extends Error {}
export class StreamFault extends StreamsError {
  constructor(className: string, data: unknown);
  readonly className: string;
  readonly data: unknown;
}
export class CallRefused extends StreamsError {
  readonly res: "endpointNotFound" | "authenticationFailed" | "authorizationDeclined" | "invalidArguments";
}
export class CallClosed extends StreamsError {
  readonly why: string | undefined;
  /** What can be done: sign in, nothing, or call again, now or after so many milliseconds. */
  readonly again: "signin" | "never" | "now" | number | undefined;
}
export class SocketLost extends StreamsError {
  readonly code: number | undefined;
}
export class ConnectFailed extends StreamsError {}
export class ConnectTimedOut extends StreamsError {}
export class IdleTimeout extends StreamsError {}

export type EndpointsStatus = "connected" | "connecting" | "disconnected";
/** The legacy streaming endpoints. */
export class StreamingEndpoints {
  constructor(
    url: string | URL,
    options?: {
      key?: Credential | (() => Credential | Promise<Credential>);
      WebSocket?: unknown;
      testing?: Testing;
    },
  );
  readonly status: EndpointsStatus;
  addStatusListener(listener: (status: EndpointsStatus, error?: StreamsError) => void): () => void;
  openStreamingConnection(): Promise<void>;
  closeStreamingConnection(): void;
  sendStreamMessage(endpoint: string, value: unknown): void;
  updateKey(): Promise<void>;
  stream<V extends Value = Value>(endpoint: string): AsyncIterableIterator<V>;
  resetStream(endpoint: string): void;
}
/** Keeps a legacy connection open; waits 5 s after a loss, and tells each second of it. */
export class ReconnectingEndpoints {
  constructor(
    endpoints: StreamingEndpoints,
    listener: (told: {
      status: EndpointsStatus | "waitingToRetry";
      retryInSeconds?: number;
      error?: StreamsError;
    }) => void,
    options?: { testing?: Testing },
  );
  connect(): void;
  close(): void;
}
