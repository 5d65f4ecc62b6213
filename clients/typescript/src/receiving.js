/** The return stream's count: what arrived, what was consumed, and when the server is told. */
const QUIET = 1000;

export class Receiving {
  /** How many frames may be here and not consumed, or null for a plain server, which has no windows. */
  window = null;

  #platform;
  #tell;
  #position = 0;
  #received = 0;
  #consumed = 0;
  #told = 0;
  #last = 0;
  #running = false;
  #timer;

  /** `tell(got)` sends a `flow` and gives whether it could. */
  constructor(platform, tell) {
    this.#platform = platform;
    this.#tell = tell;
  }

  get received() {
    return this.#received;
  }

  /** Frames that are here and not consumed. */
  get held() {
    return this.#received - this.#consumed;
  }

  /** Begins to count from nothing: a new call. */
  start(window) {
    this.stop();
    this.#running = window !== null;
    this.window = window;
    this.#position = this.#received = this.#consumed = this.#told = 0;
  }

  /** Where a resumed call has to go on. What is replayed and here already is recognised by its number. */
  resume() {
    this.#running = true;
    this.#position = this.#told = this.#consumed;
    return this.#consumed;
  }

  /** A frame arrived. Gives whether it is new. */
  arrived() {
    this.#position += 1;
    if (this.#position <= this.#received) return false;
    this.#received = this.#position;
    return true;
  }

  /** The application takes a frame. Called before it has it, so that a position is never behind. */
  consumed() {
    this.#consumed += 1;
    if (!this.#running) return;
    this.#last = this.#platform.now();
    if (this.#consumed - this.#told >= Math.ceil(this.window / 2)) this.#flow();
    else this.#timer ??= this.#platform.setTimeout(() => this.#quiet(), QUIET);
  }

  /** Tells the server nothing until `start` or `resume`; goes on counting. */
  stop() {
    this.#running = false;
    if (this.#timer !== undefined) this.#platform.clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  #quiet() {
    this.#timer = undefined;
    const left = this.#last + QUIET - this.#platform.now();
    if (left > 0) this.#timer = this.#platform.setTimeout(() => this.#quiet(), left);
    else if (this.#consumed > this.#told) this.#flow();
  }

  #flow() {
    if (this.#tell(this.#consumed)) this.#told = this.#consumed;
  }
}
