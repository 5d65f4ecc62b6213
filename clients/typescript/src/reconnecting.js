/** Keeps a legacy streaming connection open: waits 5 s after a loss, and tells how long it still is. */
import { platform } from "./platform.js";

const RETRY_SECONDS = 5;

export class ReconnectingEndpoints {
  #endpoints;
  #listener;
  #platform;
  #unlisten = null;
  #timer;

  /** `listener({ status, retryInSeconds, error })` is called at each change, and each second of a wait. */
  constructor(endpoints, listener, { testing } = {}) {
    this.#endpoints = endpoints;
    this.#listener = listener;
    // The sockets are the endpoints' business.
    this.#platform = platform(Object, testing);
  }

  /** Connects, and connects again after each loss, until `close`. */
  connect() {
    if (this.#unlisten !== null) return;
    this.#unlisten = this.#endpoints.addStatusListener((status, error) => {
      this.#listener({ status, error });
      if (status === "disconnected") this.#count(RETRY_SECONDS);
    });
    this.#attempt();
  }

  /** Closes the connection, and does not connect again. */
  close() {
    if (this.#unlisten === null) return;
    this.#unlisten();
    this.#unlisten = null;
    this.#platform.clearTimeout(this.#timer);
    this.#endpoints.closeStreamingConnection();
    this.#listener({ status: "disconnected" });
  }

  #attempt() {
    // The listener has been told of the error.
    this.#endpoints.openStreamingConnection().catch(() => {});
  }

  #count(seconds) {
    // A listener may have closed this.
    if (this.#unlisten === null) return;
    if (seconds === 0) {
      this.#attempt();
      return;
    }
    this.#listener({ status: "waitingToRetry", retryInSeconds: seconds });
    this.#timer = this.#platform.setTimeout(() => this.#count(seconds - 1), 1000);
  }
}
