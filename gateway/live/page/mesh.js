// The services behind the gateway, and what somebody should look at.

import { bytes, count, h, percent, s, seconds } from "./dom.js";

export function showAlerts(box, alerts) {
  const told = alerts.map((alert) => h("div", { class: alert.severe ? "alert severe" : "alert", "data-alert": alert.name },
    h("strong", null, alert.what), h("span", null, `Look at ${alert.look}.`)));
  // Only what changed is drawn, and read out.
  const key = JSON.stringify(alerts);
  if (box.dataset.key === key) return;
  box.dataset.key = key;
  box.replaceChildren(...told);
}

function meter(label, part, whole, told) {
  const share = whole ? Math.min(1, part / whole) : 0;
  return h("div", { class: "meter" }, h("span", null, label), h("span", { class: "number" }, told),
    s("svg", { width: "100%", height: "6", role: "img", "aria-label": `${label}: ${told}` },
      s("rect", { class: "track", width: "100%", height: 6, rx: 3 }),
      s("rect", { class: share > 0.9 ? "level full" : "level", width: `${100 * share}%`, height: 6, rx: 3 })));
}

function state(name, good) {
  return h("span", { class: `state ${good ? "good" : "poor"}` }, name);
}

function facts(...pairs) {
  return h("dl", { class: "facts" }, pairs.filter(Boolean).map(([name, value]) => h("div", null, h("dt", null, name), h("dd", null, value))));
}

function pool(stats) {
  return h("article", { class: "pool" },
    h("h4", null, stats.voice, state(stats.state, stats.state === "ready")),
    stats.fault && h("p", { class: "hint" }, stats.fault),
    meter("busy", stats.leases, stats.slots, `${stats.leases} of ${stats.slots} slots`),
    stats.queued > 0 && meter("queue", stats.queued, Math.max(stats.queued, stats.slots), `${stats.queued} chunks wait`),
    facts(
      ["replicas", `${stats.ready} of ${stats.declared}` + (stats.starting ? `, ${stats.starting} starting` : "")],
      ["real-time factor", stats.rtf ? stats.rtf.toFixed(3) : "–"],
      ["chunks", count(stats.completed)],
      stats.failed > 0 && ["failed", count(stats.failed)],
      stats.replaced > 0 && ["replaced", count(stats.replaced)],
      ["engine time", seconds(stats.engine_s)],
      stats.wasted_s > 0 && ["of it unheard", percent(stats.wasted_s, stats.engine_s)],
      stats.breaker !== "closed" && ["breaker", stats.breaker],
    ),
    stats.replicas.length > 0 && h("ul", { class: "replicas" }, stats.replicas.map((replica) => h("li", { class: replica.state },
      `${replica.name.split("/").at(-1)} ${replica.state}, ${replica.leases} of ${replica.slots}, ${bytes(replica.resident_bytes + replica.device_bytes)}`))));
}

function cacheCard(cache) {
  return h("article", { class: "pool" },
    h("h4", null, "cache", cache.redis !== "off" && state(`Redis ${cache.redis}`, cache.redis === "serving")),
    meter("memory", cache.memory_bytes, cache.memory_limit_bytes, `${bytes(cache.memory_bytes)} of ${bytes(cache.memory_limit_bytes)}`),
    h("table", { class: "figures small", title: "Reads of the cache service since it began, by every gateway: also those ahead of a turn, and twice for one chunk. The tiles above count this gateway's turns in the window." },
      h("caption", { class: "hint" }, "reads since the service began"),
      h("thead", null, h("tr", null, ["kind", "entries", "hits", "rate"].map((name) => h("th", { scope: "col" }, name)))),
      h("tbody", null, cache.kinds.map((kind) => {
        const hits = kind.memory_hits + kind.redis_hits;
        return h("tr", null, h("th", { scope: "row" }, kind.kind), h("td", null, count(kind.entries)), h("td", null, count(hits)), h("td", null, percent(hits, hits + kind.misses)));
      }))),
    cache.leases > 0 && facts(["leases", count(cache.leases)]));
}

let opened = new Set();

export function showMesh(box, told) {
  const voices = told.voices;
  const ready = voices.filter((voice) => voice.state === "ready");
  const listed = h("details", { class: "voices", open: opened.has("voices") },
    h("summary", null, `${ready.length} of ${voices.length} voices are ready`),
    h("ul", null, voices.map((voice) => h("li", null, voice.name, voice.default && " (default)", voice.state !== "ready" && state(voice.state || "not known", false)))));
  listed.addEventListener("toggle", () => (listed.open ? opened.add("voices") : opened.delete("voices")));
  const focused = box.contains(document.activeElement) && document.activeElement.tagName === "SUMMARY";
  box.replaceChildren(
    h("ul", { class: "services" },
      told.services.map((service) => h("li", { class: service.serving ? "good" : "poor" }, service.name, h("span", { class: "out" }, service.serving ? " serves" : " is away"), !service.serving && " away")),
      Object.entries(told.breakers).filter(([, is]) => is !== "closed").map(([name, is]) => h("li", { class: "poor" }, `${name} breaker ${is}`))),
    ...(told.pools ?? []).map(pool),
    told.pools ? "" : h("p", { class: "hint" }, "The TTS service says nothing of its pools."),
    told.cache ? cacheCard(told.cache) : h("p", { class: "hint" }, "The cache says nothing of itself."),
    listed);
  if (focused) box.querySelector("summary").focus({ preventScroll: true });
}

export function showVersions(box, versions) {
  box.textContent = Object.entries(versions).filter(([, value]) => value).map(([name, value]) => `${name.replace("_", " ")} ${value}`).join(" · ");
}
