// The page: follows the gateway's turns and keeps what is shown up to date. It only ever reads.

import { columns } from "./charts.js";
import { openTurn } from "./detail.js";
import { clock, h, ms, now, percent, setNow } from "./dom.js";
import { Link, ask } from "./link.js";
import { showAlerts, showMesh, showVersions } from "./mesh.js";
import { tiles } from "./tiles.js";
import { Turns } from "./turns.js";

const at = (id) => document.getElementById(id);
const STATE_MS = 2000;
const SERIES_MS = 4000;

let snapshot = { parts: [], windows: [], texts: false, audio: false };
let series = null;
let state = null;
let chosen = null;

const turns = new Turns(at("turns"), at("none"), at("more"), (turn) => { location.hash = hashOf(turn); });
const link = new Link({
  snapshot(told) {
    snapshot = told;
    setNow(told.now_ms);
    turns.replace(told);
    showWindows(told.windows);
    showHints();
    showTenants();
  },
  turn(row) {
    turns.take(row);
    showTenants();
    // Who looked at a turn that ran still gets the whole of it now.
    if (row.outcome !== "running" && at("turn").dataset.waits === hashOf(row)) followHash();
  },
  status(name) {
    at("link").dataset.state = name;
    at("link").textContent = name;
  },
});

function picked(name) {
  return document.querySelector(`input[name="${name}"]:checked`)?.value;
}

// ---------------------------------------------------------------- figures

async function refreshSeries() {
  const told = await ask(`series?window=${encodeURIComponent(picked("window") ?? "10m")}`);
  if (!told || told.window !== (picked("window") ?? told.window)) return; // another one was chosen meanwhile
  series = { ...told, at: now() };
  turns.slowerThan = told.summary.ttfa_ms.p95;
  showTiles();
  showChart();
  showStages();
}

async function refreshState() {
  const told = await ask("state");
  if (!told) return;
  state = told;
  showAlerts(at("alerts"), told.alerts);
  showMesh(at("mesh"), told);
  showVersions(at("versions"), told.versions);
  showTiles();
}

function showTiles() {
  if (series) at("tiles").replaceChildren(...tiles(series.summary, state));
}

function showChart() {
  if (!series) return;
  const box = at("chart");
  const focused = document.activeElement?.id === "columns";
  const rank = picked("rank");
  box.replaceChildren(columns(box.clientWidth || 320, series.points, rank, series.step_s, series.parts, chosen, choose));
  if (focused) at("columns").focus({ preventScroll: true });
  at("chart-hint").textContent =
    `A column is the mean of the turns around its ${rank}, so its parts add up. Red below it: turns that failed or were refused.`;
  showReadout(rank);
}

function choose(place) {
  if (place === chosen) return;
  chosen = place;
  showChart();
}

function showReadout(rank) {
  const point = chosen === null ? null : series.points[chosen];
  const out = at("readout");
  if (!point) {
    const hint = "Point at a column, or choose one with the arrow keys.";
    if (out.textContent !== hint) out.textContent = hint; // it is read out when it changes
    return;
  }
  const sum = point[rank].reduce((total, part) => total + part, 0);
  const widest = point[rank].map((part, index) => [part, series.parts[index], index])
    .filter(([part]) => part > 0).sort((a, b) => b[0] - a[0]).slice(0, 4);
  out.replaceChildren(
    h("strong", null, clock(series.at - point.age_s * 1000)),
    ` · ${point.turns} turns` + (point.failed + point.refused ? `, ${point.failed + point.refused} failed` : "") +
    (widest.length ? ` · first audio ${ms(sum)}: ` : " · nothing was heard"),
    ...widest.flatMap(([part, name, index]) => [h("i", { class: `dot p${index}` }), `${name} ${ms(part)} (${percent(part, sum)}) `]));
}

function showStages() {
  const rows = Object.entries(series.summary.stages);
  const p = series.summary.ttfa_ms;
  at("stages").replaceChildren(h("table", { class: "figures" },
    h("caption", { class: "out" }, "Percentiles of each stage by itself"),
    h("thead", null, h("tr", null, ...["stage", "p50", "p95", "p99"].map((name) => h("th", { scope: "col" }, name)))),
    h("tbody", null, rows.map(([name, values], index) => h("tr", { class: values[2] ? null : "quiet" },
      h("th", { scope: "row" }, h("i", { class: `dot p${index}` }), name),
      values.map((value) => h("td", null, ms(value)))))),
    h("tfoot", null, h("tr", null, h("th", { scope: "row" }, "first audio"),
      [p.p50, p.p95, p.p99].map((value) => h("td", null, ms(value)))))));
}

// ---------------------------------------------------------------- what is chosen

function showWindows(windows) {
  const box = at("window");
  if (box.querySelector("input")) return;
  for (const name of windows) {
    box.append(h("label", null,
      h("input", { type: "radio", name: "window", value: name, checked: name === windows[0] }),
      h("span", null, name.replace("m", " min").replace("h", " h"))));
  }
}

function showTenants() {
  const select = at("tenant");
  const was = select.value || "*";
  // The one that is chosen stays, also when none of its turns is listed any more.
  const names = [...new Set([...turns.tenants(), ...(was === "*" ? [] : [was.slice(1)])])].sort();
  at("tenants").hidden = names.length < 2;
  const key = JSON.stringify(names);
  if (select.dataset.key === key) return;
  select.dataset.key = key;
  select.replaceChildren(h("option", { value: "*" }, "every tenant"),
    ...names.map((name) => h("option", { value: `=${name}` }, name || "no tenant")));
  select.value = was;
}

function showHints() {
  const hints = [];
  if (!snapshot.texts) hints.push("Prompts and replies are not shown: VOICEMESH_GATEWAY_LIVE_TEXT=true shows them.");
  if (!snapshot.audio) hints.push("No audio is kept: VOICEMESH_GATEWAY_LIVE_AUDIO_BYTES keeps some, to hear turns again.");
  at("hints").textContent = hints.join(" ");
}

function hashOf(turn) {
  return `turn=${encodeURIComponent(turn.turn_id)}&tenant=${encodeURIComponent(turn.tenant)}`;
}

function followHash() {
  const wanted = new URLSearchParams(location.hash.slice(1));
  const asked = location.hash;
  const still = () => location.hash === asked;
  if (wanted.get("turn")) openTurn(at("turn"), wanted.get("turn"), wanted.get("tenant") ?? "", snapshot, { still, runs: turns.runs(wanted.get("tenant") ?? "", wanted.get("turn")) });
  else if (at("turn").open) at("turn").close();
}

at("turn").addEventListener("close", () => {
  at("turn").replaceChildren(); // ends what plays
  if (location.hash) history.replaceState(null, "", location.pathname);
});
at("turn").addEventListener("click", (event) => { if (event.target === at("turn")) at("turn").close(); });
at("window").addEventListener("change", () => { chosen = null; refreshSeries(); });
at("rank").addEventListener("change", showChart);
at("filter").addEventListener("change", (event) => { turns.filter = event.target.value; turns.draw(); });
at("tenant").addEventListener("change", (event) => { turns.tenant = event.target.value; turns.draw(); });
at("pause").addEventListener("click", () => {
  turns.pause(!turns.paused);
  at("pause").setAttribute("aria-pressed", String(turns.paused));
  at("pause").textContent = turns.paused ? "Go on" : "Pause";
});
window.addEventListener("hashchange", followHash);
let width = 0;
new ResizeObserver(([entry]) => {
  if (Math.round(entry.contentRect.width) === width) return;
  width = Math.round(entry.contentRect.width);
  requestAnimationFrame(showChart);
}).observe(at("chart"));

// Nobody looks at a page that is hidden: it asks for nothing, so that the services are not asked either.
async function every(period, work) {
  for (;;) {
    if (!document.hidden) await work();
    await new Promise((resolve) => setTimeout(resolve, period));
  }
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden) link.rest();
  else {
    link.start();
    refreshState();
    refreshSeries();
  }
});

await link.start();
every(STATE_MS, refreshState);
every(SERIES_MS, refreshSeries);
followHash();
document.documentElement.dataset.ready = "true";
