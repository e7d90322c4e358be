// The figures at the top.

import { count, h, ms, percent, seconds } from "./dom.js";

function tile(name, value, beside, bad, title) {
  return h("div", { class: bad ? "tile bad" : "tile", title: title || null }, h("h3", null, name), h("p", { class: "value" }, value), h("p", { class: "beside" }, beside));
}

export function tiles(summary, state) {
  // The gateway alone knows the limits.
  const alerts = new Set((state?.alerts ?? []).map((alert) => alert.name));
  const counts = summary.counts;
  const errors = counts.failed + counts.refused;
  const minutes = summary.window_s / 60;
  const found = (hit, asked, what) => (asked ? `${count(hit)} of ${count(asked)} ${what}` : `no ${what} asked for`);
  return [
    tile("First audio", ms(summary.ttfa_ms.p50), `p95 ${ms(summary.ttfa_ms.p95)} · p99 ${ms(summary.ttfa_ms.p99)}`, alerts.has("first_audio")),
    tile("Whole turn", ms(summary.total_ms.p50), `p95 ${ms(summary.total_ms.p95)} · of completed turns`, alerts.has("turn_latency")),
    tile("Turns", count(counts.turns),
      `${(counts.turns / minutes).toFixed(1)} a minute` + (state ? ` · ${state.turns.running} of ${state.turns.places} places` : "")),
    tile("Errors", percent(errors, counts.turns), `${counts.failed} failed · ${counts.refused} refused`, alerts.has("errors") || alerts.has("refused")),
    tile("Audio cache", percent(counts.audio_found, counts.audio_asked), found(counts.audio_found, counts.audio_asked, "chunks"), false,
      "Chunks of this gateway's turns in the window whose audio came from the cache, or from another turn."),
    tile("Reply cache", percent(counts.replies_found, counts.replies_asked), found(counts.replies_found, counts.replies_asked, "replies"), false,
      "Turns of this gateway in the window whose reply came from the cache."),
    tile("Underruns", count(counts.underruns), `${seconds(counts.audio_ms / 1000)} of audio`, alerts.has("underruns")),
    tile("Cost", counts.cost_usd ? `$${counts.cost_usd.toFixed(4)}` : "–", counts.cost_usd ? "as far as there are prices" : "nothing has a price"),
  ];
}
