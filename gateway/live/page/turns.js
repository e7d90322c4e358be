// The list of turns: those that run, then those that ended, newest first.

import { stack } from "./charts.js";
import { clock, h, ms, now } from "./dom.js";

const MOST = 200;
const AT_FIRST = 25;
const SHOWN = { all: () => true };

export class Turns {
  filter = "all";
  tenant = "*";
  paused = false;
  slowerThan = null;
  #rows = new Map();
  #frozen = null;
  #parts = [];
  #limit = AT_FIRST;
  #list;
  #none;
  #more;
  #open;
  #drawn = false;
  #elements = new Map();

  /** `open(row)` is called for a turn that somebody wants to see. */
  constructor(list, none, more, open) {
    this.#list = list;
    this.#more = more;
    more.addEventListener("click", () => {
      this.#limit = this.#limit === AT_FIRST ? 2 * MOST : AT_FIRST;
      this.#drawNow();
    });
    this.#none = none;
    this.#open = open;
    setInterval(() => this.#tick(), 100);
  }

  /** Take all turns anew. */
  replace(told) {
    this.#parts = told.parts;
    this.#rows = new Map([...told.ended].reverse().concat([...told.running].reverse()).map((row) => [keyOf(row), row]));
    this.#elements.clear();
    this.draw();
  }

  /** Take a turn that begins or has ended. */
  take(row) {
    this.#rows.delete(keyOf(row)); // behind all others now
    this.#rows.set(keyOf(row), row);
    this.#elements.delete(keyOf(row));
    if (this.#rows.size > MOST) {
      for (const [key, old] of this.#rows) {
        if (this.#rows.size <= MOST) break;
        if (old.outcome === "running" && this.#rows.size < 2 * MOST) continue;
        this.#rows.delete(key);
        this.#elements.delete(key);
      }
    }
    this.draw();
  }

  tenants() {
    return [...new Set([...this.#rows.values()].map((row) => row.tenant))].sort();
  }

  /** Say whether a turn runs. */
  runs(tenant, id) {
    return this.#rows.get(keyOf({ tenant, turn_id: id }))?.outcome === "running";
  }

  /** Stand still, so that somebody can read; what is chosen of the turns may change meanwhile. */
  pause(paused) {
    this.paused = paused;
    this.#frozen = paused ? new Map(this.#rows) : null;
    this.draw();
  }

  /** Draw with the next picture, however much changes until then. */
  draw() {
    if (this.#drawn) return;
    this.#drawn = true;
    requestAnimationFrame(() => {
      this.#drawn = false;
      this.#drawNow();
    });
  }

  #shown() {
    const slow = this.slowerThan ?? Infinity;
    const wanted = {
      running: (row) => row.outcome === "running",
      slow: (row) => row.ttfa_ms > slow,
      failed: (row) => row.outcome === "failed" || row.outcome === "refused",
      underruns: (row) => row.underruns > 0,
      degraded: (row) => row.degraded?.length > 0,
    }[this.filter] ?? SHOWN.all;
    const ours = (row) => this.tenant === "*" || this.tenant === `=${row.tenant}`;
    const rows = [...(this.#frozen ?? this.#rows).values()].reverse().filter((row) => ours(row) && wanted(row));
    return [...rows.filter((row) => row.outcome === "running"), ...rows.filter((row) => row.outcome !== "running")];
  }

  #drawNow() {
    const all = this.#shown();
    const rows = all.slice(0, this.#limit);
    const heard = rows.map((row) => row.ttfa_ms || 0).sort((a, b) => a - b);
    // One that takes ten times as long must not make all others invisible: it is cut off at the right.
    const whole = Math.max(1, Math.min(heard.at(-1) ?? 1, 4 * (heard[Math.floor(heard.length * 0.5)] || heard.at(-1) || 1)));
    const scale = Number(whole.toPrecision(2));
    const focused = document.activeElement?.dataset?.key;
    const wanted = rows.map((row) => {
      const key = keyOf(row);
      const known = this.#elements.get(key);
      if (known) {
        if (known.scale !== scale && row.parts?.length) known.element.querySelector(".bar").replaceChildren(stack(row.parts, scale, this.#parts));
        known.scale = scale;
        return known.element;
      }
      const element = this.#row(row, scale);
      this.#elements.set(key, { element, scale });
      return element;
    });
    // What stays is not taken out and put in again: it would lose the focus, be read out anew, and miss a click.
    const stays = new Set(wanted);
    for (const element of [...this.#list.children]) if (!stays.has(element)) element.remove();
    wanted.forEach((element, place) => {
      if (this.#list.children[place] !== element) this.#list.insertBefore(element, this.#list.children[place] ?? null);
    });
    if (focused && document.activeElement?.dataset?.key !== focused) this.#list.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
    this.#more.hidden = all.length <= AT_FIRST;
    this.#more.textContent = all.length > rows.length ? `Show all ${all.length}` : `Show the last ${AT_FIRST}`;
    this.#none.hidden = rows.length > 0;
    if (this.#rows.size) this.#none.textContent = "No turn is like that.";
    this.#tick();
  }

  #row(row, scale) {
    const runs = row.outcome === "running";
    const flags = [];
    if (row.underruns) flags.push(h("span", { class: "flag" }, `${row.underruns} underrun${row.underruns > 1 ? "s" : ""}`));
    for (const what of row.degraded ?? []) flags.push(gaveUp(what));
    if (row.reply_cache === "hit" || row.reply_cache === "similar") flags.push(h("span", { class: "flag calm" }, row.reply_cache === "hit" ? "cached" : "similar"));
    const name = row.error ? `${row.error.reason}` : `${row.voice}`;
    return h("li", null, h("button", {
      type: "button", class: `row ${row.outcome}`, "data-key": keyOf(row), onclick: () => this.#open(row),
      "aria-label": `turn ${row.turn_id}, ${row.outcome}` + (runs ? "" : row.ttfa_ms ? `, first audio ${ms(row.ttfa_ms)}` : ", no audio"),
    },
    h("span", { class: "began" }, clock(row.began_ms)),
    h("span", { class: "what" }, h("span", { class: "outcome" }, row.outcome), h("span", { class: "id" }, short(row.turn_id)), flags, h("span", { class: "voice" }, name)),
    h("span", { class: "bar" }, row.parts?.length ? stack(row.parts, scale, this.#parts) : runs ? h("span", { class: "elapsed", "data-began": row.began_ms }) : null),
    h("span", { class: "first number" }, row.ttfa_ms ? ms(row.ttfa_ms) : "–"),
    h("span", { class: "audible number" }, row.ttfa_audible_ms ? ms(row.ttfa_audible_ms) : "–"),
    h("span", { class: "end number" }, row.total_ms ? ms(row.total_ms) : "–"),
    h("span", { class: "chunks number" }, row.chunks_asked ? `${row.chunks_found} of ${row.chunks_asked}` : "–")));
  }

  /** How long those have run that run. */
  #tick() {
    for (const element of this.#list.querySelectorAll(".elapsed")) {
      const age = Math.max(0, now() - Number(element.dataset.began));
      element.textContent = `runs for ${(age / 1000).toFixed(1)} s`;
    }
  }
}

const GIVEN_UP = {
  cache: ["without cache", "The cache was late, or away: this turn went on without it."],
  history: ["without history", "The history could not be loaded or saved: this gateway's own copy went on."],
  voice: ["another voice", "The voice that was asked for could not speak."],
  model: ["another model", "The model that was asked for did not answer."],
  local_speech: ["caller spoke", "No engine could speak it: the caller was asked to speak by itself."],
  resumed: ["resumed", "What broke off was taken up elsewhere."],
};

/** What a turn gave up, as a tag. */
function gaveUp(what) {
  const [name, title] = GIVEN_UP[what] ?? [`gave up ${what}`, `The turn went on without: ${what}.`];
  return h("span", { class: "flag", title }, name);
}

function keyOf(row) {
  return `${row.tenant}/${row.turn_id}`;
}

function short(id) {
  return id.length > 10 ? `${id.slice(0, 8)}…` : id;
}
