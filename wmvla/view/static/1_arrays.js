// Numbers as Python packed them, elements, and words for values.

/** The 16 bits of a half-precision number as a number. */
function half(bits) {
  const sign = bits & 0x8000 ? -1 : 1, exponent = (bits >> 10) & 31, fraction = bits & 1023;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : (2 ** -14 * fraction) / 1024);
}

/** {shape, type, data} -> {shape, values}: base64 of little-endian f4, f2 or u1; null stays null. */
function unpack(packed) {
  if (!packed) return null;
  const bytes = Uint8Array.from(atob(packed.data), (c) => c.charCodeAt(0));
  const kinds = { f4: () => new Float32Array(bytes.buffer), u1: () => bytes };
  const values = packed.type === "f2" ? Float32Array.from(new Uint16Array(bytes.buffer), half) : kinds[packed.type]();
  return { shape: packed.shape, values };
}

/** One number of an unpacked array. */
function at(array, ...index) {
  return array.values[index.reduce((place, i, axis) => place * array.shape[axis] + i, 0)];
}

/** Mean over all that lies below the first indices, what is no number left out: meanAt(share, decision, layer). */
function meanAt(array, ...index) {
  const below = array.shape.slice(index.length).reduce((a, b) => a * b, 1);
  const start = index.reduce((place, i, axis) => place * array.shape[axis] + i, 0) * below;
  const found = array.values.slice(start, start + below).filter(Number.isFinite);
  return found.length ? found.reduce((a, b) => a + b, 0) / found.length : NaN;
}

/** Attention as decision x memory step; `pick` names layer, head and action step, null is the mean over all. */
function attentionMap(array, pick) {
  const [decisions, ...sizes] = array.shape, steps = sizes.pop();
  const chosen = sizes.map((size, i) => (pick[i] === null || pick[i] >= size ? [...Array(size).keys()] : [pick[i]]));
  const count = chosen.reduce((a, c) => a * c.length, 1);
  return Array.from({ length: decisions }, (_, t) => {
    const row = new Float64Array(steps);
    for (const layer of chosen[0]) for (const head of chosen[1]) for (const action of chosen[2])
      for (let k = 0; k < steps; k++) row[k] += at(array, t, layer, head, action, k) / count;
    return row;
  });
}

/** The decision that rules at a step; -1 where nothing is known of decisions. */
function decisionAt(episode, step) {
  let found = episode.step.length ? 0 : -1;
  episode.step.forEach((s, i) => { if (s <= step) found = i; });
  return found;
}

/** The first step after a decision's last. */
function endOf(episode, decision) {
  return episode.step[decision + 1] ?? episode.steps;
}

/** A payload with its arrays unpacked. */
function opened(payload) {
  const arrays = ["gate", "share", "entropy", "attention", "seen", "actions", "error", "baseline", "without"];
  const sight = payload.sight ? { ...payload.sight, maps: unpack(payload.sight.maps) } : null;
  const path = payload.path ? { ...payload.path, points: unpack(payload.path.points), foreseen: unpack(payload.path.foreseen) } : null;
  return { ...payload, ...Object.fromEntries(arrays.map((name) => [name, unpack(payload[name])])), sight, path };
}

/** Three digits, a real minus sign, and nothing in the place of what is no number. */
function number(value, signed = false) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "none";
  const text = Math.abs(value) >= 1000 ? value.toFixed(0) : String(Number(value.toPrecision(3)));
  return (signed && value >= 0 ? "+" : "") + text.replace("-", "−");
}

function percent(value) {
  return Number.isFinite(value) ? `${number(100 * value)} %` : "none";
}

const SVG = "http://www.w3.org/2000/svg";

/** An element: `make("div.name", {title: "x", onclick: f}, child, "text")`; `svg:rect` is one of a drawing. */
function make(name, settings = {}, ...children) {
  const drawn = name.startsWith("svg:"), [tag, ...classes] = name.replace("svg:", "").split(".");
  const element = drawn ? document.createElementNS(SVG, tag) : document.createElement(tag);
  if (classes.length) element.setAttribute("class", classes.join(" "));
  for (const [key, value] of Object.entries(settings)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key === "style" && typeof value === "object") Object.entries(value).forEach(([k, v]) => element.style.setProperty(k, v));
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat().filter((c) => c !== null && c !== undefined));
  return element;
}

/** A light and a dark colour as one: what the theme wants. */
function both(colours) {
  return `light-dark(${colours[0]}, ${colours[1]})`;
}

/** An arm as its name in its colour. */
function chip(episode) {
  const settings = { style: { "--arm": both(episode.colour) } };
  return make("span.wmi-chip", settings, make("i"), episode.arm, make("small", {}, ` s${episode.seed}`));
}

/** Success or failure, by word, shape and colour. */
function outcome(episode) {
  return make(`span.wmi-${episode.success ? "won" : "lost"}`, {}, episode.success ? "✓ success" : "✕ failure");
}
