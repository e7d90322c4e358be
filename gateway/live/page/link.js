// The way to the gateway: a snapshot, then events as they happen; questions again and again where a stream is
// refused, or broken for long.

const API = "/live/api/";
const POLL_MS = 2000;
const STREAM_AGAIN_MS = 15000;
const PATIENCE_MS = 10000;

/** Ask for something; null where it cannot be had now. */
export async function ask(path) {
  try {
    const response = await fetch(API + path, { headers: { accept: "application/json" }, signal: AbortSignal.timeout(PATIENCE_MS) });
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
  #held = null;
  #time = 0;

  /** `listener` has `snapshot(told)`, `turn(row)` and `status(name)`. */
  constructor(listener) {
    this.#listener = listener;
  }

  async start() {
    this.rest();
    const time = this.#time;
    this.#listener.status("connecting");
    await this.#snapshot();
    if (time === this.#time) this.#stream(); // else it was told to rest, or to start anew, meanwhile
  }

  /** Ask for nothing until `start`. */
  rest() {
    this.#time += 1;
    this.#source?.close();
    this.#source = null;
    clearInterval(this.#polling);
    clearTimeout(this.#retry);
    this.#polling = this.#retry = null;
  }

  async #snapshot() {
    // What happens while the answer is under way is newer than it, and goes on top of it.
    this.#held ??= [];
    const told = await ask("turns");
    const held = this.#held ?? [];
    this.#held = null;
    if (told) {
      this.#last = told.event_id;
      this.#listener.snapshot(told);
    }
    for (const [id, row] of held) {
      if (!told || isBehind(id, told.event_id)) this.#listener.turn(row);
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
      const row = JSON.parse(event.data);
      if (this.#held) this.#held.push([event.lastEventId, row]);
      else this.#listener.turn(row);
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
    const time = this.#time;
    const once = async () => {
      const name = (await this.#snapshot()) ? "polling" : "reconnecting";
      if (time === this.#time && this.#polling) this.#listener.status(name);
    };
    this.#polling = setInterval(once, POLL_MS);
    once();
  }
}

/** Say whether an event is newer than another one; ids are EPOCH-NUMBER, and another epoch is another process. */
function isBehind(id, other) {
  const [[epoch, number], [others, before]] = [id, other].map((each) => each.split("-"));
  return epoch === others && Number(number) > Number(before);
}
