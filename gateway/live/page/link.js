// The way to the gateway: a snapshot, then events as they happen; questions again and again where a stream is
// refused, or broken for long.

const API = "/live/api/";
const POLL_MS = 2000;
const STREAM_AGAIN_MS = 15000;

/** Ask for something; null where it cannot be had now. */
export async function ask(path) {
  try {
    const response = await fetch(API + path, { headers: { accept: "application/json" } });
    return response.ok ? await response.json() : null;
  } catch {
    return null; // the gateway is away: whoever asks does so again
  }
}

export class Link {
  #listener;
  #source = null;
  #polling = null;
  #retry = null;
  #last = "";

  /** `listener` has `snapshot(told)`, `turn(row)` and `status(name)`. */
  constructor(listener) {
    this.#listener = listener;
  }

  async start() {
    this.rest();
    this.#listener.status("connecting");
    await this.#snapshot();
    this.#stream();
  }

  /** Ask for nothing until `start`. */
  rest() {
    this.#source?.close();
    this.#source = null;
    clearInterval(this.#polling);
    clearTimeout(this.#retry);
    this.#polling = this.#retry = null;
  }

  async #snapshot() {
    const told = await ask("turns");
    if (told) {
      this.#last = told.event_id;
      this.#listener.snapshot(told);
    }
    return told !== null;
  }

  #stream() {
    const source = new EventSource(`${API}events?after=${encodeURIComponent(this.#last)}`);
    this.#source = source;
    source.onopen = () => {
      clearInterval(this.#polling);
      this.#polling = null;
      this.#listener.status("live");
    };
    source.addEventListener("turn", (event) => {
      this.#last = event.lastEventId;
      this.#listener.turn(JSON.parse(event.data));
    });
    source.addEventListener("reset", () => this.#snapshot());
    source.onerror = () => {
      // The browser connects again by itself, with the id of the last event, unless it was refused.
      this.#listener.status("reconnecting");
      if (source.readyState !== EventSource.CLOSED || source !== this.#source) return;
      this.#source = null;
      this.#poll();
      this.#retry = setTimeout(() => this.#stream(), STREAM_AGAIN_MS);
    };
  }

  #poll() {
    clearInterval(this.#polling);
    const once = async () => this.#listener.status((await this.#snapshot()) ? "polling" : "reconnecting");
    this.#polling = setInterval(once, POLL_MS);
    once();
  }
}
