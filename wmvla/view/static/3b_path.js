// An episode as a path through the space in which its policy sees, and the codes that its frames became.

const PATH_SIDE = 256, PATH_EDGE = 12, MOST_CODES = 24; // pixels, pixels, codes that are listed

/** Where points of the plane lie in the drawing; one scale for both directions. */
function planeScale(values) {
  const ends = [0, 1].map((axis_) => { const own = values.filter((v, i) => i % 2 === axis_ && Number.isFinite(v)); return [Math.min(...own), Math.max(...own)]; });
  const span = Math.max(...ends.map(([low, high]) => high - low), 1e-12), unit = (PATH_SIDE - 2 * PATH_EDGE) / span;
  const place = (value, axis_) => PATH_SIDE / 2 + (axis_ ? -1 : 1) * unit * (value - (ends[axis_][0] + ends[axis_][1]) / 2);
  return (array, ...index) => [place(at(array, ...index, 0), 0), place(at(array, ...index, 1), 1)];
}

/** The path of an episode: a click or a drag on it moves the clock, and the clock moves the ring. */
function pathPanel(episode, clock) {
  if (!episode.path) return null;
  const { points, foreseen, explained } = episode.path, frames = points.shape[0], last = (step) => Math.min(step, frames - 1);
  const place = planeScale([...points.values, ...(foreseen ? foreseen.values : [])]);
  const where = Array.from({ length: frames }, (_, i) => place(points, i)), line = (places) => places.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join(" ");
  const dots = where.map(([cx, cy], i) => make("svg:circle.wmi-frame", { cx, cy, r: 2.8, "fill-opacity": (0.2 + (0.8 * i) / frames).toFixed(2) }, make("svg:title", {}, `step ${i}`)));
  const ring = make("svg:circle.wmi-ring", { r: 8 }), ahead = make("svg:polyline.wmi-ahead", { style: { stroke: both(episode.colour) } });
  const image = make("svg:svg.wmi-path", { viewBox: `0 0 ${PATH_SIDE} ${PATH_SIDE}`, width: PATH_SIDE, height: PATH_SIDE, role: "img" },
    make("svg:polyline.wmi-way", { points: line(where) }), dots, ahead, ring);
  /** The frame nearest to the pointer; of those that lie on top of each other the one nearest to the clock. */
  const seek = (event) => {
    const box = image.getBoundingClientRect(), x = ((event.clientX - box.left) * PATH_SIDE) / box.width, y = ((event.clientY - box.top) * PATH_SIDE) / box.height;
    const far = where.map(([px, py], i) => Math.hypot(px - x, py - y) + 1e-3 * Math.abs(i - clock.step));
    clock.pause();
    clock.set(far.indexOf(Math.min(...far)));
  };
  image.addEventListener("pointerdown", (e) => { image.setPointerCapture(e.pointerId); seek(e); });
  image.addEventListener("pointermove", (e) => { if (image.hasPointerCapture(e.pointerId)) seek(e); });
  clock.listeners.push(() => {
    const step = last(clock.step), d = decisionAt(episode, clock.step), [cx, cy] = where[step];
    Object.entries({ cx, cy }).forEach(([name, value]) => ring.setAttribute(name, value));
    const shown = foreseen && d >= 0 && clock.step < episode.steps;
    ahead.setAttribute("points", shown ? line([where[last(episode.step[d])], ...Array.from({ length: foreseen.shape[1] }, (_, k) => place(foreseen, d, k))]) : "");
    image.setAttribute("aria-label", `Path of ${episode.arm} through latent space, at step ${step} of ${frames - 1}`);
  });
  const words = `${percent(explained[0] + explained[1])} of the variance of its frames; light: start, ring: now${foreseen ? ", line: what was predicted at this decision" : ""}`;
  return make("figure.wmi-pathbox", {}, make("h4", {}, chip(episode), " path through latent space"), image, make("figcaption", {}, words));
}

/** Codes by how often they occur; those of this moment are marked, a click goes to the next frame that has one. */
function codesPanel(episode, clock) {
  const { codes, counts, used } = episode.path || {};
  if (!codes) return null;
  const frames = codes.length, next = (code) => Array.from({ length: frames }, (_, i) => (clock.step + 1 + i) % frames).find((i) => codes[i].includes(code));
  const buttons = counts.slice(0, MOST_CODES).map(([code, n]) => make("button.wmi-code", { "data-code": code, title: `code ${code}: ${n} times; goes to the next frame that has it`,
    style: { "--long": `${(100 * n) / counts[0][1]}%` }, onclick: () => { clock.pause(); clock.set(next(code)); } }, code, make("small", {}, ` ${n}`)));
  clock.listeners.push(() => {
    const now = codes[Math.min(clock.step, frames - 1)];
    buttons.forEach((b) => b.classList.toggle("wmi-now-code", now.includes(Number(b.dataset.code))));
  });
  const more = counts.length > MOST_CODES ? make("span", {}, `and ${counts.length - MOST_CODES} more`) : null;
  return make("div.wmi-ranked", { "aria-label": `Codes of ${episode.arm}` }, make("span", {}, `Codes of ${episode.arm}: ${used}`), buttons, more);
}
