// One or two episodes under one clock: films, transport, words, tracks.

/** The clock: an environment step that runs, stops and is set; all listeners hear of every change. */
class Clock {
  constructor(last, rate) {
    Object.assign(this, { last, rate, step: 0, speed: 1, playing: false, until: last, listeners: [] });
  }
  tell() { for (const listener of this.listeners) listener(this); }
  set(step) {
    this.step = Math.max(0, Math.min(this.last, Math.round(step)));
    this.from = [performance.now(), this.step];
    this.tell();
  }
  play(until = this.last) {
    if (this.step >= until) this.step = 0;
    Object.assign(this, { playing: true, until, from: [performance.now(), this.step] });
    this.tell();
    requestAnimationFrame((now) => this.tick(now));
  }
  pause() {
    this.playing = false;
    this.tell();
  }
  tick(now) {
    if (!this.playing) return;
    const step = Math.floor(this.from[1] + ((Math.max(now - this.from[0], 0)) / 1000) * this.rate * this.speed);
    if (step >= this.until) { this.step = this.until; return this.pause(); }
    if (step !== this.step) { this.step = step; this.tell(); }
    requestAnimationFrame((later) => this.tick(later));
  }
}

/** Keep a film at the clock's step: set when it stands, corrected when it runs away. */
function follow(video, episode, clock) {
  const at_ = (step) => (Math.min(step, episode.steps) + 0.5) / episode.fps, wanted = at_(clock.step);
  const ended = clock.step >= episode.steps;
  if (clock.playing && !ended) {
    video.playbackRate = clock.speed;
    if (Math.abs(video.currentTime - wanted) > 0.15) video.currentTime = wanted;
    if (video.paused) video.play().catch(() => {});
  } else {
    if (!video.paused) video.pause();
    if (Math.abs(video.currentTime - wanted) > 0.2 / episode.fps) video.currentTime = wanted;
  }
}

/** The film of an episode with its caption; a sentence where there is none. */
function filmOf(episode, clock, host) {
  const caption = make("figcaption", {}, chip(episode), " ", outcome(episode), make("small", {}, ` in ${episode.steps} steps`));
  const seen = episode.cameras.length ? `, cameras side by side: ${episode.cameras.join(", ")}` : "";
  if (!episode.film) return make("figure.wmi-film", {}, make("div.wmi-nofilm", {}, "Not filmed"), caption);
  const video = make("video", { muted: true, playsinline: true, preload: "auto", "aria-label": `Film of ${episode.arm} on ${episode.task}${seen}` });
  video.muted = true;
  video.addEventListener("loadedmetadata", () => follow(video, episode, clock));
  video.addEventListener("error", () => video.replaceWith(make("div.wmi-nofilm", {}, "The film cannot be read")));
  host.film(episode).then((source) => { video.src = source; });
  clock.listeners.push(() => follow(video, episode, clock));
  const sight = sightOver(episode, clock), tick = make("input", { type: "checkbox", onchange: () => { sight.hidden = !tick.checked; } });
  if (sight) caption.append(make("label.wmi-sightwords", {}, tick, ` ${episode.sight.how}`));
  return make("figure.wmi-film", {}, make("div.wmi-screen", {}, video, sight), caption);
}

/** Play, decision by decision, speed, scrub. */
function transport(clock, moves) {
  const button = make("button.wmi-play", { "aria-label": "Play or pause (space)", onclick: () => (clock.playing ? clock.pause() : clock.play()) }, "▶");
  const jump = (label, words, how) => make("button", { "aria-label": words, title: words, onclick: how }, label);
  const range = make("input", { type: "range", min: 0, max: clock.last, value: 0, "aria-label": "Environment step", oninput: (e) => clock.set(Number(e.target.value)) });
  const speed = make("select", { "aria-label": "Speed", onchange: (e) => { clock.speed = Number(e.target.value); clock.set(clock.step); } },
    [0.25, 0.5, 1, 2].map((s) => make("option", { value: s, selected: s === 1 }, `${s}×`)));
  const where = make("output.wmi-where", {});
  clock.listeners.push(() => {
    button.textContent = clock.playing ? "❚❚" : "▶";
    range.value = clock.step;
    range.setAttribute("aria-valuetext", `step ${clock.step} of ${clock.last}`);
    where.textContent = `step ${clock.step} of ${clock.last}`;
  });
  return make("div.wmi-transport", {}, button, jump("◀", "The decision before (left arrow)", moves.before),
    jump("▶", "The next decision (right arrow)", moves.next), range, where, speed);
}

/** What is seen at this moment, in words, one paragraph an episode. */
function nowPanel(episodes, clock) {
  const panel = make("div.wmi-now", { role: "region", "aria-label": "In words" });
  const own = episodes.map((e) => {
    const where = make("b", {}), said = make("p.wmi-sentence", {}), facts = (e.notes || []).map((note) => make("p", {}, note));
    clock.listeners.push(() => {
      said.replaceChildren(...e.spans.filter((s) => s.start <= clock.step && clock.step < s.end).flatMap((s) => [make("span", { class: s.against && "wmi-lie" }, `${s.what}: ${s.why}`), make("small", {}, ` ${s.source}, since step ${s.start}`), s.against ? make("small.wmi-liewords", {}, ` ${s.against}`) : "", make("br")]));
      const d = decisionAt(e, clock.step), over = clock.step >= e.steps;
      where.textContent = over ? `Over: ${e.success ? "success" : "failure"}` : d < 0 ? `Step ${clock.step}` : `Decision ${d + 1} of ${e.step.length}, since step ${e.step[d]}`;
    });
    const whole = facts.length && e.step.length ? make("h5", {}, "Over the whole episode") : null;
    return make("section", {}, make("h4", {}, chip(e), " ", where), said, whole, facts);
  });
  panel.append(...own);
  return panel;
}

/** Choice of layer, head and action step of the attention; nothing where there is no attention. */
function attentionChoice(episodes, pick, changed) {
  const shapes = episodes.filter((e) => e.attention).map((e) => e.attention.shape);
  if (!shapes.length) return null;
  const choice = (name, axis_) => {
    const size = Math.max(...shapes.map((shape) => shape[axis_ + 1]));
    if (size < 2) return null;
    const options = [make("option", { value: "" }, "mean"), ...Array.from({ length: size }, (_, i) => make("option", { value: i }, i))];
    options.forEach((o) => { o.selected = o.value === String(pick[axis_] ?? ""); });
    return make("label", {}, `${name} `, make("select", { "aria-label": `Attention of ${name}`, onchange: (e) => {
      pick[axis_] = e.target.value === "" ? null : Number(e.target.value);
      changed();
    } }, options));
  };
  return make("div.wmi-choice", {}, make("span", {}, "Attention of"), choice("layer", 0), choice("head", 1), choice("action step", 2));
}

/** The drawing of all tracks, redrawn when its width or the choice changes; returns what follows the clock. */
class Tracks {
  constructor(episodes, clock, parting, tip) {
    Object.assign(this, { episodes, clock, parting, tip, pick: [null, null, null], hovered: null });
    this.root = make("svg:svg.wmi-tracks", { role: "img" });
    this.play = (start, end) => { clock.set(start); clock.play(end); };
    this.root.addEventListener("pointermove", (e) => this.hover(e));
    this.root.addEventListener("pointerleave", () => this.hover(null));
    this.root.addEventListener("pointerdown", (e) => { if (!e.target.closest("button")) { this.root.setPointerCapture(e.pointerId); this.drag = true; this.seek(e); } });
    this.root.addEventListener("pointerup", () => { this.drag = false; });
    clock.listeners.push(() => this.move());
    new ResizeObserver(() => { if (this.root.clientWidth !== this.width) this.draw(); }).observe(this.root);
  }
  seek(event) {
    const x = event.clientX - this.root.getBoundingClientRect().left;
    if (x < GUTTER - 8) return;
    this.clock.pause();
    this.clock.set(this.scale.step(x));
  }
  hover(event) {
    if (event && this.drag) this.seek(event);
    if (!event || !this.scale) { this.hovered = null; this.tip.hidden = true; return this.move(); }
    const box = this.root.getBoundingClientRect(), x = event.clientX - box.left;
    this.hovered = x >= GUTTER - 4 && x <= this.scale.right + 4 ? this.scale.step(x) : null;
    const track = this.placed?.find((p) => event.clientY - box.top >= p.top - 4 && event.clientY - box.top <= p.top + p.track.height + 9);
    this.tell(event, track?.track);
    this.move();
  }
  /** The tip beside the pointer: every number of this track at the hovered step. */
  tell(event, track) {
    const said = this.hovered === null || !track ? [] : this.wordsOf(track, this.hovered);
    this.tip.hidden = !said.length;
    if (!said.length) return;
    this.tip.replaceChildren(make("b", {}, `${track.title}, step ${this.hovered}`), ...said.map(([e, words]) => make("div", {}, track.owners.length > 1 ? chip(e) : null, ` ${words}`)));
    const box = this.tip.parentElement.getBoundingClientRect(), x = event.clientX - box.left;
    Object.assign(this.tip.style, { top: `${event.clientY - box.top + 16}px`, left: x > box.width - 330 ? "" : `${x + 14}px`, right: x > box.width - 330 ? `${box.width - x + 14}px` : "" });
  }
  wordsOf(track, step) {
    return track.owners.filter((e) => step < e.steps || e.steps === this.clock.last)
      .map((e) => [e, track.words(e, decisionAt(e, step), step)]).filter(([, words]) => words);
  }
  draw() {
    this.width = this.root.clientWidth;
    if (!this.width) return;
    this.scale = axis(this.width, this.clock.last);
    const tracks = tracksOf(this.episodes, this.pick, this.play, this.parting), pieces = [];
    let top = 22;
    this.placed = tracks.map((track) => {
      const placed = { track, top, over: make("svg:g", {}), brief: text(0, 40, ""), transform: `translate(0 ${top})` };
      pieces.push(make("svg:g", { transform: placed.transform }, text(0, 11, track.title, { class: "wmi-title" }),
        text(0, 25, track.hint, { class: "wmi-mark" }), this.legend(track), placed.brief, track.draw(this.scale)), make("svg:g", { transform: placed.transform }, placed.over));
      top += Math.max(track.height, track.quiet ? 28 : 44) + GAP;
      return placed;
    });
    this.root.setAttribute("height", top + 2);
    this.head = make("svg:g.wmi-head", {}, make("svg:line", { y1: 14, y2: top }), make("svg:path", { d: "M-5,6h10v5l-5,5l-5,-5z" }));
    this.ghost = make("svg:line.wmi-ghost", { y1: 14, y2: top });
    this.root.replaceChildren(...this.ruler(top), ...pieces, ...this.apart(top), this.ghost, this.head);
    this.move();
  }
  /** The value at this moment, of each episode in its colour. */
  briefs(track, step) {
    return track.owners.map((e, i) => make("svg:tspan", { class: "wmi-value", style: { fill: both(e.colour) } }, (i ? "  " : "") + track.brief(e, decisionAt(e, step))));
  }
  legend(track) {
    if (!track.legend) return [];
    const words = track.legend.flatMap(([name, colours], i) => [make("svg:tspan", { style: { fill: both(colours) } }, (i ? " " : "") + name)]);
    return [make("svg:text.wmi-mark", { x: 0, y: 39 }, ...words)];
  }
  /** Steps along the top, a tick for every decision. */
  ruler(bottom) {
    const { scale, clock } = this, most = Math.max((scale.right - scale.left) / 45, 2);
    const every = [1, 2, 5, 10, 20, 50, 100, 200, 500].find((n) => clock.last / n <= most) || 1000;
    const marks = Array.from({ length: Math.floor(clock.last / every) + 1 }, (_, i) => text(scale.x(i * every), 10, i * every, { class: "wmi-mark", "text-anchor": "middle" }));
    const ticks = this.episodes.flatMap((e, i) => e.step.map((s) => make("svg:line", { x1: scale.x(s), x2: scale.x(s), y1: 14, y2: i ? 17 : 20, style: { stroke: both(e.colour) } })));
    const ends = this.episodes.filter((e) => e.steps < clock.last).map((e) => make("svg:line.wmi-end", { x1: scale.x(e.steps), x2: scale.x(e.steps), y1: 14, y2: bottom, style: { stroke: both(e.colour) } }));
    return [text(0, 10, "Environment step", { class: "wmi-mark" }), ...marks, ...ticks, ...ends];
  }
  apart(bottom) {
    if (!this.parting || this.parting.step === null) return [];
    const x = this.scale.x(this.parting.step);
    return [make("svg:line.wmi-parting", { x1: x, x2: x, y1: 14, y2: bottom }), text(x + 4, bottom - 2, "here they part", { class: "wmi-parting-name" })];
  }
  /** Follow the clock: the head, the profiles and the dashed plans. */
  move() {
    if (!this.scale) return;
    const step = this.hovered ?? this.clock.step;
    this.head.setAttribute("transform", `translate(${this.scale.x(this.clock.step)} 0)`);
    this.ghost.setAttribute("visibility", this.hovered === null ? "hidden" : "visible");
    this.ghost.setAttribute("transform", `translate(${this.scale.x(step)} 0)`);
    for (const { track, over, brief } of this.placed) {
      if (track.brief) brief.replaceChildren(...this.briefs(track, step));
      const d = decisionAt(track.owners[0], step);
      if (over.dataset.decision === String(d)) continue;
      over.dataset.decision = d;
      over.replaceChildren(...(track.profile ? track.profile(d, this.scale.right + 12) : []), ...(track.plan ? track.plan(d, this.scale) : []));
    }
    const said = this.placed.flatMap(({ track }) => this.wordsOf(track, this.clock.step).map(([e, words]) => `${track.title} of ${e.arm}: ${words}`));
    this.root.setAttribute("aria-label", `Curves at step ${this.clock.step}. ${said.join(". ")}`);
  }
}

const UNKNOWN_PARTING = "How far the chunks of these two are apart is not told: a page knows it of the pairs that it was made for, JupyterLab of all that kept their decisions.";

/** The player of one or two payloads. `host` gives films; `settings`: step, parting, onmove, state (what was asked, and how to show it anew). */
function makePlayer(payloads, host, settings = {}) {
  const episodes = payloads.map(opened), clock = new Clock(Math.max(...episodes.map((e) => e.steps)), episodes[0].fps);
  const starts = [...new Set(episodes.flatMap((e) => e.step))].sort((a, b) => a - b);
  const moves = { next: () => { clock.pause(); clock.set(starts.find((s) => s > clock.step) ?? (starts.length ? clock.last : clock.step + 5)); },
    before: () => { clock.pause(); clock.set(starts.findLast((s) => s < clock.step) ?? (starts.length ? 0 : clock.step - 5)); } };
  const tip = make("div.wmi-tip", { hidden: true, role: "tooltip" }), tracks = new Tracks(episodes, clock, settings.parting, tip);
  const films = make("div.wmi-films", {}, episodes.map((e) => filmOf(e, clock, host)));
  const choice = attentionChoice(episodes, tracks.pick, () => rank()), first = episodes[0];
  const title = make("h3", {}, first.task, make("small", {}, ` initial state ${first.init}${first.used ? ", used in training" : ""}`));
  const now = nowPanel(episodes, clock), found = episodes.flatMap((e) => [imaginedPanel(e, clock), pathPanel(e, clock)]), codes = episodes.map((e) => codesPanel(e, clock));
  const ranked = make("div.wmi-rankings", {}), rank = () => { tracks.draw(); ranked.replaceChildren(...rankings()); };
  const rankings = () => episodes.map((e) => rankedHeads(e, tracks.pick, () => { root.querySelector(".wmi-choice")?.replaceWith(attentionChoice(episodes, tracks.pick, rank)); rank(); })).filter(Boolean);
  const root = make("section.wmi-player", { tabindex: 0, "aria-label": `Player: ${episodes.map((e) => `${e.arm}, seed ${e.seed}`).join(" and ")} on ${first.task}. Space plays, arrows move by decision, with shift by step.` },
    title, first.instruction ? make("p.wmi-instruction", {}, `“${first.instruction}”`) : null, make("div.wmi-top", {}, films, found, now), codes,
    settings.parting || episodes.length > 1 ? make("p.wmi-apart", {}, settings.parting?.sentence || UNKNOWN_PARTING) : null, transport(clock, moves), choice, ranked, tracks.root, askPanel(episodes, clock, host, settings.state || { asked: [], again: () => {} }), tip);
  ranked.replaceChildren(...rankings());
  root.addEventListener("keydown", (event) => keys(event, clock, moves));
  clock.listeners.push(() => settings.onmove?.(clock));
  requestAnimationFrame(() => { tracks.draw(); clock.set(settings.step ?? 0); });
  return { root, clock, episodes, tracks, close: () => { clock.pause(); films.querySelectorAll("video").forEach((v) => { v.removeAttribute("src"); v.load(); }); } };
}

/** Space, arrows, Home and End; what is typed into a control stays there. */
function keys(event, clock, moves) {
  if (event.target.closest("select, input[type=search], .wmi-list") || event.ctrlKey || event.metaKey || event.altKey) return;
  const step = (by) => () => { clock.pause(); clock.set(clock.step + by); };
  const known = { ArrowRight: event.shiftKey ? step(1) : moves.next, ArrowLeft: event.shiftKey ? step(-1) : moves.before,
    Home: () => clock.set(0), End: () => clock.set(clock.last) };
  if (!event.target.closest("button")) known[" "] = () => (clock.playing ? clock.pause() : clock.play());
  if (!known[event.key]) return;
  event.preventDefault();
  event.stopPropagation();
  known[event.key]();
}
