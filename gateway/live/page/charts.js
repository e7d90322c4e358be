// Two drawings: a bar of parts, and columns of parts over time. Colours are classes (p0, p1, …), by the order in
// which the gateway names the parts: themes are the style sheet's, and no name of a stage stands here.

import { h, ms, s } from "./dom.js";

/** Rectangles that follow one another, as wide as `parts` of `whole`: percent, so that they fit any width. */
function laid(parts, whole) {
  let at = 0;
  return parts.map((part, place) => {
    const box = { place, part, x: (100 * at) / whole, width: (100 * Math.max(part, 0)) / whole };
    at += Math.max(part, 0);
    return box;
  });
}

/** One bar of all parts; `whole` is what the full width stands for. */
export function stack(parts, whole, names) {
  const boxes = laid(parts, whole).filter((box) => box.width > 0);
  return s("svg", { class: "stack", "aria-hidden": "true", width: "100%", height: "12" },
    boxes.map((box) => s("rect", {
      class: `p${box.place}`, x: `${box.x}%`, width: `${box.width}%`, y: 0, height: 12,
    }, s("title", null, `${names[box.place]} ${ms(box.part)}`))));
}

/** The rows of a waterfall: each part begins where the one before it ends, and the last ends at the whole. */
export function waterfall(parts, names) {
  const whole = parts.reduce((sum, part) => sum + Math.max(part, 0), 0) || 1;
  const total = parts.reduce((sum, part) => sum + part, 0);
  return h("table", { class: "waterfall" },
    h("thead", null, h("tr", null,
      h("th", { scope: "col" }, "stage"), h("th", { scope: "col", class: "wide" }, h("span", { class: "out" }, "when")),
      h("th", { scope: "col", class: "number" }, "time"), h("th", { scope: "col", class: "number" }, "share"))),
    h("tbody", null, laid(parts, whole).map((box) =>
      h("tr", { class: box.part ? null : "quiet" },
        h("th", { scope: "row" }, h("i", { class: `dot p${box.place}` }), names[box.place]),
        h("td", { class: "wide" }, s("svg", { width: "100%", height: "14", "aria-hidden": "true" },
          box.width > 0 && s("rect", {
            class: `p${box.place}`, x: `${box.x}%`, width: `${box.width}%`, y: 1, height: 12, rx: 1.5,
            "data-ms": box.part,
          }),
          box.width > 0 && box.width < 0.4 && s("rect", { class: `p${box.place}`, x: `${Math.min(box.x, 99.5)}%`, width: 2, y: 1, height: 12 }))),
        h("td", { class: "number" }, ms(box.part)),
        h("td", { class: "number" }, share(box.part, total))))),
    h("tfoot", null, h("tr", null,
      h("th", { scope: "row" }, "first audio"), h("td", { class: "wide" }),
      h("td", { class: "number" }, ms(total)), h("td", { class: "number" }, "100%"))));
}

function share(part, whole) {
  const value = whole ? (100 * part) / whole : 0;
  return value > 0 && value < 0.5 ? "<1%" : `${value.toFixed(0)}%`;
}

/** Round steps that reach `most`: 1, 2 or 5 times a power of ten. */
function ticks(most, about) {
  const rough = most / about;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((times) => times * power).find((size) => size >= rough);
  const marks = [];
  for (let at = 0; at <= most + step * 0.001; at += step) marks.push(at);
  return marks;
}

const LEFT = 54;
const BOTTOM = 22;
const TOP = 8;
const HEIGHT = 220;

/**
 * Columns over time; `choose` is told of the column under the pointer, or that the arrow keys went to, as its place;
 * null for none.
 */
export function columns(width, points, rank, stepS, names, chosen, choose) {
  const sums = points.map((point) => point[rank].reduce((sum, part) => sum + Math.max(part, 0), 0));
  const marks = ticks(Math.max(...sums, 10) * 1.02, 4);
  const most = Math.max(...sums, marks.at(-1), 10) * 1.02;
  const right = width - 6;
  const y = (value) => HEIGHT - BOTTOM - ((HEIGHT - BOTTOM - TOP) * value) / most;
  const slot = (right - LEFT) / points.length;
  const gap = slot > 5 ? Math.min(3, slot * 0.2) : 0.5;
  const at = (event) => {
    const place = Math.floor((event.clientX - event.currentTarget.getBoundingClientRect().left - LEFT) / slot);
    return place >= 0 && place < points.length ? place : null;
  };
  const keys = (event) => {
    const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (event.key === "Escape") choose(null);
    if (!move) return;
    event.preventDefault();
    choose(Math.min(points.length - 1, Math.max(0, (chosen ?? (move < 0 ? points.length : -1)) + move)));
  };
  const span = points.length * stepS;
  const ageStep = [60, 120, 300, 600, 900, 1200].find((size) => span / size <= (width < 480 ? 4 : 7)) ?? 3600;
  const ages = Array.from({ length: Math.floor(span / ageStep) + 1 }, (_, place) => place * ageStep);
  return s("svg", {
    width, height: HEIGHT, class: "columns-chart", tabindex: "0", role: "img", id: "columns",
    "aria-label": `Stages of the time to first audio, ${rank} of each ${stepS < 60 ? `${stepS} seconds` : "minute"}; arrow keys choose a column`,
    onpointermove: (event) => choose(at(event)), onpointerleave: () => choose(null), onkeydown: keys,
  },
  marks.map((mark) => [
    s("line", { class: mark ? "grid" : "base", x1: LEFT, x2: right, y1: y(mark), y2: y(mark) }),
    s("text", { class: "tick", x: LEFT - 8, y: y(mark) + 4, "text-anchor": "end" }, mark >= 1000 ? `${mark / 1000} s` : mark ? `${Number(mark.toPrecision(3))} ms` : "0"),
  ]).flat(),
  ages.map((age) => {
    const x = right - ((right - LEFT) * age) / span;
    if (x < LEFT - 1) return null;
    return s("text", { class: "tick", x, y: HEIGHT - 5, "text-anchor": age ? (x < LEFT + 20 ? "start" : "middle") : "end" }, age ? `−${age / 60} min` : "now");
  }),
  points.map((point, place) => {
    let base = 0;
    return s("g", { class: place === chosen ? "chosen" : null },
      place === chosen && s("rect", { class: "cursor", x: LEFT + place * slot, width: slot, y: TOP, height: HEIGHT - BOTTOM - TOP }),
      point[rank].map((part, index) => {
        if (part <= 0) return null;
        base += part;
        return s("rect", { class: `p${index}`, x: LEFT + place * slot + gap / 2, width: Math.max(slot - gap, 0.5), y: y(base), height: Math.max(y(base - part) - y(base), 0.1) });
      }),
      (point.failed + point.refused > 0) && s("rect", { class: "failed-mark", x: LEFT + place * slot + gap / 2, width: Math.max(slot - gap, 1.5), y: HEIGHT - BOTTOM + 1, height: 3 }));
  }));
}

/** When the chunks were there and when they were heard: what a player does that starts at the first frame. */
export function playback(chunks, totalMs) {
  let heard = null;
  const rows = chunks.filter((chunk) => chunk.first_frame_ms > 0).map((chunk) => {
    const from = heard === null ? chunk.first_frame_ms : Math.max(heard, chunk.first_frame_ms);
    // The gateway's own account, where there is one: its player begins when the first frame is queued.
    const inHand = heard === null ? null : chunk.slack_ms ?? heard - chunk.first_frame_ms;
    const dry = Math.max(0, -(inHand ?? 0));
    const row = { chunk, from, dry, until: from + chunk.audio_ms, ready: chunk.first_frame_ms, inHand };
    heard = row.until;
    return row;
  });
  const most = Math.max(totalMs, heard ?? 0, 1);
  const x = (value) => `${(100 * value) / most}%`;
  return { rows, draw: (row) => s("svg", { class: "play", width: "100%", height: "16", "aria-hidden": "true" },
    row.from > row.ready && s("rect", { class: "wait", x: x(row.ready), width: x(row.from - row.ready), y: 6, height: 4 }),
    row.dry > 0.5 && s("rect", { class: "dry", x: x(row.from - row.dry), width: x(row.dry), y: 2, height: 12 }),
    s("rect", { class: "heard", x: x(row.from), width: x(row.until - row.from), y: 2, height: 12, rx: 2 }),
    s("rect", { class: "ready", x: x(row.ready), width: 2, y: 0, height: 16 })) };
}
