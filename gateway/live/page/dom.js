// Elements, made so that no text can ever be markup: prompts may hold HTML.

const SVG = "http://www.w3.org/2000/svg";

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  for (const child of children.flat(Infinity)) {
    if (child !== null && child !== undefined && child !== false) element.append(child);
  }
  return element;
}

/** An HTML element; children are elements, or texts. */
export function h(name, attributes, ...children) {
  return filled(document.createElement(name), attributes, children);
}

/** The same of SVG. */
export function s(name, attributes, ...children) {
  return filled(document.createElementNS(SVG, name), attributes, children);
}

/** Milliseconds, as short as they stay exact enough to compare. */
export function ms(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  if (!size) return "0";
  if (size >= 10000) return `${(value / 1000).toFixed(1)} s`;
  if (size >= 1000) return `${(value / 1000).toFixed(2)} s`;
  if (size >= 100) return `${value.toFixed(0)} ms`;
  return `${value.toFixed(size >= 10 ? 1 : 2)} ms`;
}

export function seconds(value) {
  return value >= 100 ? `${value.toFixed(0)} s` : `${value.toFixed(value >= 10 ? 1 : 2)} s`;
}

export function percent(part, whole) {
  if (!whole) return "–";
  const value = (100 * part) / whole;
  return `${value > 0 && value < 10 ? value.toFixed(1) : value.toFixed(0)}%`;
}

export function bytes(value) {
  for (const unit of ["B", "kB", "MB"]) {
    if (value < 1000) return `${value.toFixed(value < 10 && unit !== "B" ? 1 : 0)} ${unit}`;
    value /= 1000;
  }
  return `${value.toFixed(1)} GB`;
}

/** A number with thin separators. */
export function count(value) {
  return value.toLocaleString("en");
}

let ahead = 0;

/** Take the gateway's time of day: it may be another machine's, whose clock is not the browser's. */
export function setNow(unixMs) {
  ahead = unixMs - Date.now();
}

/** The gateway's time of day, in milliseconds since 1970. */
export function now() {
  return Date.now() + ahead;
}

export function clock(unixMs) {
  return new Date(unixMs).toLocaleTimeString([], { hour12: false });
}

