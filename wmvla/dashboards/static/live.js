// A run that is going on: curves, success so far, evidence and the newest episodes. Only what was appended is asked for.

const LIVE_CURVES = [["loss_action", "Action loss", "L1, normalised"], ["loss_world", "World loss", "per element"],
  ["gate_share", "What passes the gate", "share of the state it is added to"], ["gate", "Gate tanh(g)", "0: closed, the baseline"],
  ["attention_entropy", "Attention entropy", "0 one memory step, 1 all alike"]];
const LIVE_DASHES = [null, "6 3", "2 3", "8 3 2 3"], LIVE_NEWEST = 40, LIVE_TURN = 1000; // milliseconds between two questions

/** All that was sent, put together: parts by name, in the order in which they appeared. */
class LiveRun {
  constructor() { Object.assign(this, { parts: new Map(), about: { runs: [], said: [] } }); }
  /** What is known of each part: [its beginning, rows]; the answer holds what lies behind. */
  get known() { return Object.fromEntries([...this.parts].map(([name, p]) => [name, [p.begun, p.rows.length]])); }
  take(news) {
    for (const [name, part] of Object.entries(news.parts)) {
      const old = this.parts.get(name), again = !old || old.begun !== part.begun;
      this.parts.set(name, { ...part, rows: again ? part.rows : [...old.rows, ...part.rows] });
    }
    this.about = news;
  }
  of(kind) { return [...this.parts.values()].filter((p) => p.kind === kind); }
  /** Episodes of each run once, the newest last. */
  get episodes() {
    const found = new Map();
    for (const { run, inspect, rows } of this.of("episodes")) for (const row of rows) {
      const name = `${run} ${row.id}`;
      found.delete(name);
      found.set(name, { run, inspect, row });
    }
    return [...found.values()];
  }
}

/** A training in words: run (where there are several), arm, seed. */
function liveName(part, runs) {
  return `${runs > 1 ? `${part.run}: ` : ""}${part.arm} s${part.seed}`;
}

function liveStyle(part, seeds) {
  return { style: { stroke: both(part.colour), fill: "none" }, "stroke-dasharray": LIVE_DASHES[seeds.indexOf(part.seed) % LIVE_DASHES.length] };
}

/** Round numbers between two ends. */
function liveTicks(low, high) {
  const span = Math.max(high - low, 1e-12), unit = 10 ** Math.floor(Math.log10(span / 2)), step = [1, 2, 5, 10].map((n) => n * unit).find((n) => span / n <= 4) || unit * 10;
  return Array.from({ length: 8 }, (_, i) => (Math.ceil(low / step - 1e-9) + i) * step).filter((v) => v <= high + 1e-9);
}

/** One small chart; `lines`: {points: [[x, y]], name, settings}; `zero`: the axis begins there. */
function livePlot(title, hint, across, lines, zero = true) {
  const drawn = lines.map((l) => ({ ...l, points: l.points.filter(([, y]) => Number.isFinite(y)) })).filter((l) => l.points.length);
  if (!drawn.length) return null;
  const width = 330, height = 170, left = 46, right = 8, top = 8, bottom = 30, all = drawn.flatMap((l) => l.points);
  const end = Math.max(...all.map(([x]) => x)), start = Math.min(...all.map(([x]) => x));
  const least = Math.min(...all.map(([, y]) => y)), most = Math.max(...all.map(([, y]) => y)), margin = 0.04 * Math.max(most - (zero ? Math.min(0, least) : least), 1e-9);
  const low = zero ? Math.min(0, least) : least - margin, high = most + margin;
  const x = (v) => left + ((width - left - right) * (v - start)) / Math.max(end - start, 1e-9);
  const y = (v) => height - bottom - ((height - top - bottom) * (v - low)) / (high - low);
  const grid = liveTicks(low, high).flatMap((v) => [make("svg:line.wmi-grid", { x1: left, x2: width - right, y1: y(v), y2: y(v) }),
    make("svg:text.wmi-mark", { x: left - 5, y: y(v) + 3.5, "text-anchor": "end" }, number(v))]);
  const feet = liveTicks(start, end).map((v) => make("svg:text.wmi-mark", { x: x(v), y: height - bottom + 14, "text-anchor": "middle" }, number(v)));
  const curves = drawn.map((l) => { const at = ([a, b]) => `${x(a).toFixed(1)},${y(b).toFixed(1)}`;
    return l.points.length > 1 ? make("svg:polyline.wml-line", { points: l.points.map(at).join(" "), ...l.settings }, make("svg:title", {}, l.name))
      : make("svg:circle", { cx: x(l.points[0][0]), cy: y(l.points[0][1]), r: 2.5, style: { fill: l.settings.style.stroke } }, make("svg:title", {}, l.name)); });
  const last = drawn.map((l) => `${l.name} ${number(l.points.at(-1)[1])}`).join(", ");
  const image = make("svg:svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${title}, ${hint}, at the end: ${last}` }, grid, feet, curves,
    make("svg:text.wmi-mark", { x: width - right, y: height - 3, "text-anchor": "end" }, across));
  return make("figure.wml-plot", {}, make("figcaption", {}, make("b", {}, title), ` ${hint}`), image);
}

/** Which colour is which arm, which dash which seed. */
function liveKey(trainings, seeds, runs) {
  return make("p.wml-key", {}, trainings.map((p) => make("span", {}, make("svg:svg", { width: 26, height: 10, "aria-hidden": "true" },
    make("svg:line.wml-line", { x1: 0, x2: 26, y1: 5, y2: 5, ...liveStyle(p, seeds) })), ` ${liveName(p, runs)}`)));
}

function liveCurves(live, runs) {
  const own = live.of("curve"), seeds = [...new Set(own.map((p) => p.seed))].sort((a, b) => a - b);
  if (!own.length) return [];
  const plots = LIVE_CURVES.map(([name, title, hint]) => livePlot(title, hint, "training step",
    own.map((p) => ({ name: liveName(p, runs), settings: liveStyle(p, seeds), points: p.rows.map((r) => [r.step, r[name]]) }))));
  return [make("h3", {}, "Trainings"), liveKey(own, seeds, runs), make("div.wml-plots", {}, plots.filter(Boolean))];
}

/** Prophet by future step, beside copying the present and adding the mean change, as of each training's last save. */
function liveHorizon(live, runs) {
  const own = live.of("evidence").filter((p) => p.rows.at(-1)?.horizon?.length), seeds = [...new Set(own.map((p) => p.seed))].sort((a, b) => a - b);
  if (!own.length) return [];
  const lines = (field, grey) => own.flatMap((p) => { const rows = p.rows.at(-1).horizon;
    return [{ name: `${liveName(p, runs)}, step ${p.rows.at(-1).step}`, settings: liveStyle(p, seeds), points: rows.map((r) => [r.step, r[field]]) },
      ...grey.map(([other, name, dash]) => ({ name, settings: { style: { stroke: "var(--muted)", fill: "none" }, "stroke-dasharray": dash }, points: rows.map((r) => [r.step, r[other]]) }))]; });
  const plots = [livePlot("Cosine with the true latent", "grey: copy-last (dashed), mean change (dotted)", "future step k", lines("prophet", [["copy_last", "copy-last", "6 3"], ["mean_delta", "mean change", "2 3"]]), false),
    livePlot("Cosine with the true change", "copying has none; grey: mean change", "future step k", lines("prophet_delta", [["mean_delta_delta", "mean change", "2 3"]]))];
  return [make("h3", {}, "Prediction"), liveKey(own, seeds, runs), make("div.wml-plots", {}, plots.filter(Boolean))];
}

function liveTable(heads, rows) {
  const line = (cells, tag) => make("tr", {}, cells.map((c, i) => make(tag, { class: i ? "wmi-num" : null }, c)));
  return make("div.wml-wide", {}, make("table.wml-table", {}, make("thead", {}, line(heads, "th")), make("tbody", {}, rows.map((r) => line(r, "td")))));
}

/** How far each group of weights went, with a mark where one that should have moved did not, or one that should stay moved. */
function liveMoved(live, runs) {
  const own = live.of("evidence").filter((p) => p.rows.length), groups = [...new Set(own.flatMap((p) => p.rows.at(-1).moved.map((m) => m.group)))];
  if (!own.length) return [];
  const cell = (p, group) => { const m = p.rows.at(-1).moved.find((row) => row.group === group);
    if (!m) return "";
    if (!m.trainable) return m.change ? make("b.wmi-lost", {}, `moved: ${number(m.change)}`) : "fixed";
    return m.still.length ? make("b.wmi-lost", {}, m.change ? `${number(m.change)}, ${m.still.length} tensors still` : "did not move") : number(m.change); };
  const count = (p) => { const n = p.rows.at(-1).nonfinite; return n ? make("b.wmi-lost", {}, n) : "0"; };
  const rows = groups.map((g) => [g, ...own.map((p) => cell(p, g))]);
  return [make("h3", {}, "Weights"), make("p.wml-hint", {}, "Distance of each group of weights from where it began, relative to its length there. Not finite: memories and steps with NaN or infinity, so far."),
    liveTable(["weights", ...own.map((p) => make("span", {}, liveName(p, runs), make("small", {}, `step ${p.rows.at(-1).step}`)))], [...rows, ["not finite", ...own.map(count)]])];
}

/** How many succeeded, of how many, for each policy and task, and the newest episodes. `open(run, id)` looks into one. */
function liveSuccess(episodes, runs, open) {
  if (!episodes.length) return [];
  const tasks = [...new Set(episodes.map((e) => e.row.task))], groups = new Map(), several = (run) => (runs > 1 ? ` ${run}` : "");
  for (const { run, row } of episodes) {
    const name = `${run} ${row.arm} ${row.seed} ${row.memory}`;
    if (!groups.has(name)) groups.set(name, { run, first: row, nonfinite: 0, tasks: new Map(), all: [0, 0] });
    const own = groups.get(name);
    if (!own.tasks.has(row.task)) own.tasks.set(row.task, [0, 0]);
    for (const count of [own.tasks.get(row.task), own.all]) { count[0] += row.success ? 1 : 0; count[1] += 1; }
    own.nonfinite += row.nonfinite;
  }
  const part = (count) => (count ? `${count[0]} of ${count[1]}` : "");
  const rows = [...groups.values()].map((g) => [make("span", {}, chip(g.first), ` ${g.first.memory}${several(g.run)}`), ...tasks.map((t) => part(g.tasks.get(t))), part(g.all),
    g.nonfinite ? make("b.wmi-lost", {}, g.nonfinite) : "0"]);
  const newest = episodes.slice(-LIVE_NEWEST).reverse().map(({ run, inspect, row: e }) => make("li", { "data-id": e.id }, outcome(e), ` ${e.steps} steps `, chip(e),
    ` ${e.task}, state ${e.init}, memory ${e.memory}${several(run)} `,
    open && inspect ? make("button.wml-open", { onclick: () => open(run, e.id), "aria-label": `Inspect ${e.id}` }, "inspect") : null));
  return [make("h3", {}, `Episodes: ${episodes.length}`), liveTable(["policy, memory", ...tasks, "all", "not finite"], rows),
    make("p.wml-hint", {}, "Successes so far, without a test: looking again and again until a difference shows would find one where there is none. wmvla plan has the test that may be looked at early."),
    make("ol.wml-newest", { "aria-label": "Newest episodes" }, newest)];
}

function liveHead(live) {
  const { runs, said } = live.about, minutes = (r) => Object.values(r.stages).reduce((a, b) => a + b, 0) / 60;
  const line = (r) => make("p.wml-run", {}, make("b", {}, r.id), ` ${r.status}`, r.error ? `: ${r.error}` : "", Object.keys(r.stages).length ? `; done: ${Object.keys(r.stages).join(", ")} (${number(minutes(r))} min)` : "");
  return [...runs.map(line), ...said.map((s) => make("p.wmi-said", {}, s))];
}

/** Keep `element` showing what `ask(known)` tells, until the function that this returns is called. `open(run, id)` looks into an episode. */
function watchRun(element, ask, open = null) {
  const live = new LiveRun(), where = make("p.wml-state", { role: "status" }), body = make("div", {}), root = make("div.wmi.wml", {}, make("h2", {}, "Live"), where, body);
  let over = false;
  element.replaceChildren(root);
  const said = make("div", {}), parts = ["head", "episodes", "curve", "horizon", "moved"].map(() => ({ box: make("section", {}), told: null }));
  body.append(said, ...parts.map((p) => p.box));
  /** Draw anew only what has news: what is read, or has the focus, stays. */
  const draw = () => {
    const runs = live.about.runs.length, rows = (kind) => live.of(kind).map((p) => [p.begun, p.rows.length]).join(), evidence = rows("evidence");
    const made = [[JSON.stringify([live.about.runs, live.about.said]), () => liveHead(live)], [rows("episodes"), () => liveSuccess(live.episodes, runs, open)],
      [rows("curve"), () => liveCurves(live, runs)], [evidence, () => liveHorizon(live, runs)], [evidence, () => liveMoved(live, runs)]];
    made.forEach(([told, draws], i) => {
      if (parts[i].told === told) return;
      const scrolled = parts[i].box.querySelector(".wml-newest")?.scrollTop;
      parts[i].told = told;
      parts[i].box.replaceChildren(...draws());
      if (scrolled) parts[i].box.querySelector(".wml-newest").scrollTop = scrolled;
    });
    said.replaceChildren(...(live.parts.size ? [] : [make("p.wmi-said", {}, "Nothing was trained or played here yet; this page shows it when it is.")]));
  };
  const turn = async () => {
    try {
      live.take(await ask(live.known));
      draw();
      where.textContent = `looked at ${new Date().toLocaleTimeString()}`;
    } catch (error) { where.textContent = `no answer (${error.message}); asking again`; }
    if (!over) setTimeout(turn, document.hidden ? 5 * LIVE_TURN : LIVE_TURN);
  };
  turn();
  return () => { over = true; };
}

/** A page of `wmvla dashboard --watch`: its address holds the token. */
function watchPage() {
  const query = new URLSearchParams(location.search), token = query.get("token");
  const ask = async (known) => {
    const answer = await fetch(`news?token=${encodeURIComponent(token)}`, { method: "POST", body: JSON.stringify(known) });
    if (!answer.ok) throw new Error(await answer.text());
    return answer.json();
  };
  return watchRun(document.getElementById("wmi"), ask, (run, episode) => window.open(`inspect?${new URLSearchParams({ token, run, episode })}`));
}

/** A widget's `render`: the kernel answers. */
function watchKernel(model, element) {
  const ask = asker(model);
  return watchRun(element, async (known) => (await ask({ known })).answer);
}
