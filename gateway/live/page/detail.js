// One turn, in a sheet of its own.

import { playback, waterfall } from "./charts.js";
import { clock, h, ms, seconds } from "./dom.js";
import { ask } from "./link.js";

/** Show a turn, unless `still()` says that another one, or none, is wanted by the time that it is known; of one that `runs` nothing is. */
export async function openTurn(dialog, id, tenant, snapshot, { still, runs }) {
  const query = `id=${encodeURIComponent(id)}&tenant=${encodeURIComponent(tenant)}`;
  const turn = runs ? null : await ask(`turn?${query}`);
  if (!still()) return;
  dialog.dataset.waits = turn ? "" : `turn=${encodeURIComponent(id)}&tenant=${encodeURIComponent(tenant)}`;
  dialog.replaceChildren(h("div", { class: "sheet" }, ...(turn ? told(turn, query, snapshot) : missing(id)),
    h("button", { type: "button", class: "close", "aria-label": "Close", onclick: () => dialog.close() }, "✕")));
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
}

function missing(id) {
  return [
    h("h2", { id: "turn-title" }, "Turn"),
    h("p", null, `Turn ${id.slice(0, 200)} runs still, or is not remembered any more. One that runs is shown when it has ended.`),
  ];
}

function fact(name, value, bad) {
  return h("div", { class: bad ? "bad" : null }, h("dt", null, name), h("dd", null, value));
}

function told(turn, query, snapshot) {
  const tokens = turn.tokens;
  return [
    h("h2", { id: "turn-title" }, h("span", { class: `outcome ${turn.outcome}` }, turn.outcome), " turn"),
    h("p", { class: "ids" }, clock(turn.began_ms), " · ", turn.voice || "voice not known", turn.model && ` · ${turn.model}`),
    h("dl", { class: "ids" }, [["turn", turn.turn_id], ["trace", turn.trace_id], ["session", turn.session_id], ["tenant", turn.tenant]]
      .filter(([, value]) => value).map(([name, value]) => h("div", null, h("dt", null, name), h("dd", null, h("code", null, value), copy(value, name))))),
    turn.error && h("p", { class: "alert severe" }, h("strong", null, turn.error.reason), h("span", null, turn.error.message)),
    hear(turn, query, snapshot),
    h("dl", { class: "facts big" },
      fact("first text", turn.ttft_ms ? ms(turn.ttft_ms) : "–"),
      fact("first audio", turn.ttfa_ms ? ms(turn.ttfa_ms) : "–"),
      fact("audible", turn.ttfa_audible_ms ? ms(turn.ttfa_audible_ms) : "–"),
      fact("end", ms(turn.total_ms)),
      fact("audio", seconds(turn.audio_ms / 1000)),
      fact("underruns", turn.underruns ? `${turn.underruns} (${ms(turn.underrun_ms)})` : "0", turn.underruns > 0),
      fact("reply cache", turn.reply_cache),
      tokens.input + tokens.output > 0 && fact("tokens", `${tokens.input} + ${tokens.output}`),
      fact("characters", String(turn.characters)),
      fact("engine", ms(turn.engine_ms)),
      turn.head_start_ms > 0 && fact("draft ahead", ms(turn.head_start_ms)),
      turn.cost_usd > 0 && fact("cost", `$${turn.cost_usd.toFixed(6)}`)),
    turn.degraded.length > 0 && h("p", { class: "hint" }, `Given up: ${turn.degraded.map((what, place) => (turn.degraded_why?.[place] ? `${what} (${turn.degraded_why[place]})` : what)).join("; ")}.`),
    turn.attribution_violations?.length > 0 && h("p", { class: "alert" }, h("strong", null, "The account is not whole"), h("span", null, turn.attribution_violations.join(", "))),
    h("h3", null, "Time to first audio"),
    turn.parts.length ? waterfall(turn.parts, snapshot.parts) : h("p", { class: "hint" }, "No audio was heard: there is no time to cut."),
    hops(turn),
    turn.chunks.length > 0 && h("h3", null, "Chunks"),
    turn.chunks.length > 0 && chunks(turn),
    texts(turn, snapshot),
  ].filter(Boolean);
}

function copy(value, name) {
  if (!navigator.clipboard) return null;
  const button = h("button", { type: "button", class: "copy", "aria-label": `Copy the ${name} id` }, "copy");
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(value);
      button.textContent = "copied";
    } catch {
      button.textContent = "not allowed";
    }
  });
  return button;
}

function hear(turn, query, snapshot) {
  if (turn.hear) {
    return h("figure", { class: "hear" },
      h("audio", { controls: true, preload: "metadata", src: `/live/api/audio?${query}` }),
      h("figcaption", { class: "hint" }, "What was made for the caller, without the gaps of underruns", turn.outcome === "interrupted" && ", and with what an interrupt left unheard", turn.hear_cut && "; its end was too long to keep", "."));
  }
  return snapshot.audio ? h("p", { class: "hint" }, "The audio of this turn is not kept (any more).") : null;
}

function hops(turn) {
  const known = Object.entries(turn.hops).filter(([, value]) => value > 0);
  return known.length ? h("p", { class: "hint" }, `transport by hop: ${known.map(([hop, value]) => `${hop} ${ms(value)}`).join(" · ")}`) : null;
}

function chunks(turn) {
  const { rows, draw } = playback(turn.chunks, turn.total_ms);
  const played = new Map(rows.map((row) => [row.chunk.index, row]));
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Chunks" }, h("table", { class: "figures chunks" },
    h("thead", null, h("tr", null, ["#", "cut by", "held", "cache", "queue", "synthesis", "there at", "audio", "in hand", "heard"].map((name) => h("th", { scope: "col", class: { "cut by": "text", cache: "text", heard: "wide" }[name] }, name)))),
    h("tbody", null, turn.chunks.map((chunk) => {
      const row = played.get(chunk.index);
      const inHand = chunk.slack_ms ?? row?.inHand;
      const late = chunk.underrun_ms ?? (row?.dry > 0.5 ? row.dry : 0);
      return h("tr", null,
        h("th", { scope: "row" }, String(chunk.index)), h("td", { class: "text" }, chunk.reason || "–"),
        h("td", null, ms(chunk.held_ms)), h("td", { class: "text" }, chunk.cache),
        h("td", null, ms(chunk.queue_ms)), h("td", null, ms(chunk.synthesis_ms)),
        h("td", null, chunk.first_frame_ms ? ms(chunk.first_frame_ms) : "–"), h("td", null, seconds(chunk.audio_ms / 1000)),
        h("td", { class: inHand < 0 || late > 0 ? "bad" : null }, late > 0 ? `dry ${ms(late)}${chunk.underrun_cause ? `: ${chunk.underrun_cause}` : ""}` : inHand === null || inHand === undefined ? "–" : ms(inHand)),
        h("td", { class: "wide" }, row && draw(row)));
    }))));
}

function texts(turn, snapshot) {
  if (!snapshot.texts) return h("p", { class: "hint" }, "Prompts and replies are not shown: VOICEMESH_GATEWAY_LIVE_TEXT=true shows them.");
  return h("section", null,
    turn.prompt && [h("h3", null, "Prompt"), h("blockquote", { dir: "auto" }, turn.prompt)],
    h("h3", null, "Reply, as it was cut"),
    h("blockquote", { dir: "auto" }, turn.chunks.length ? turn.chunks.map((chunk) => h("span", { class: "cut", title: `chunk ${chunk.index}: ${chunk.reason}` }, chunk.text)) : turn.text));
}
