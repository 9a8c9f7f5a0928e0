// The tracks below the films: everything over one axis of environment steps.

const GUTTER = 150, EDGE = 96, GAP = 13; // pixels left of the curves, right of them, between two tracks
const ACTION_COLOURS = [["#0072b2", "#56b4e9"], ["#d17a00", "#e69f00"], ["#33a487", "#5ec9ae"], ["#b0528a", "#d58fbd"],
  ["#8c510a", "#c99a5b"], ["#5e4fa2", "#a99be0"], ["#4a4a4a", "#c8c8c8"]];

/** Where steps lie in the drawing. */
function axis(width, last) {
  const span = Math.max(width - GUTTER - EDGE, 80);
  const x = (step) => GUTTER + (span * Math.min(step, last)) / Math.max(last, 1);
  return { x, left: GUTTER, right: GUTTER + span, step: (pixel) => Math.max(0, Math.min(last, Math.round(((pixel - GUTTER) / span) * last))) };
}

/** A line that holds its value from one decision to the next. */
function stairs(episode, values, scale, y) {
  const parts = values.map((value, d) => Number.isFinite(value) && `${scale.x(episode.step[d]).toFixed(1)},${y(value).toFixed(1)}H${scale.x(endOf(episode, d)).toFixed(1)}`);
  return parts.map((part, d) => (part ? (d && parts[d - 1] ? "L" : "M") + part : "")).join("");
}

function text(x, y, words, settings = {}) {
  return make("svg:text", { x, y, ...settings }, words);
}

/** A horizontal line with its name at the right edge. */
function level(scale, y, words, dashed = false) {
  return [make("svg:line.wmi-grid", { x1: scale.left, x2: scale.right, y1: y, y2: y, "stroke-dasharray": dashed ? "4 3" : null }),
    text(scale.right + 6, y + 3.5, words, { class: "wmi-mark" })];
}

/** Gate or entropy: a line for each episode and layer. */
function curveTrack(title, hint, episodes, name, settings) {
  const owners = episodes.filter((e) => e[name]), height = 50;
  if (!owners.length) return null;
  const lines = owners.flatMap((e) => Array.from({ length: e[name].shape[1] }, (_, layer) =>
    ({ episode: e, layer, values: e.step.map((_, d) => meanAt(e[name], d, layer)) })));
  const high = settings.high ?? (Math.max(...lines.flatMap((l) => l.values.filter(Number.isFinite)), 1e-6) * 1.15);
  const y = (value) => height - (height * Math.max(0, Math.min(value, high))) / high;
  const draw = (scale) => [
    ...settings.levels(high).flatMap(([value, words, dashed]) => level(scale, y(value), words, dashed)),
    ...lines.map((l) => make("svg:path.wmi-curve", { d: stairs(l.episode, l.values, scale, y), style: { stroke: both(l.episode.colour) },
      "stroke-opacity": 1 - (0.6 * l.layer) / l.episode[name].shape[1] }))];
  return { title, hint, height, draw, words: (e, d) => (e[name] ? settings.words(e, d) : null), brief: settings.brief, owners };
}

function gateTrack(episodes) {
  const words = (e, d) => `${percent(meanAt(e.share, d))} of the residual, tanh(g) ${e.gate ? number(meanAt(e.gate, d), true) : "none"}`;
  const levels = (high) => [[0, "0: closed"], [high / 1.15, percent(high / 1.15)]];
  return curveTrack("Gate", "share of the residual", episodes, "share", { levels, words, brief: (e, d) => percent(meanAt(e.share, d)) });
}

/** How far the chunk moves with zeros as the memory, at this decision alone: what the gate's share does not say. */
function withoutTrack(episodes) {
  const levels = (high) => [[0, "0: unchanged"], [high / 1.15, number(high / 1.15)]];
  return curveTrack("Without its memory", "the chunk moves by", episodes, "without",
    { levels, words: (e, d) => `with zeros the chunk moves by ${number(at(e.without, d, 0))} spreads of the actions`, brief: (e, d) => number(at(e.without, d, 0)) });
}

function entropyTrack(episodes) {
  const levels = () => [[0, "0: one step"], [1, "1: uniform", true]];
  return curveTrack("Attention entropy", "over memory steps", episodes, "entropy",
    { levels, high: 1, words: (e, d) => `entropy ${number(meanAt(e.entropy, d))}`, brief: (e, d) => number(meanAt(e.entropy, d)) });
}

/** Decision x memory step as colours: attention, or the error of the prediction. */
function mapTrack(title, hint, episode, rows, settings) {
  const steps = rows[0].length, cell = Math.max(6, Math.min(13, 90 / steps)), height = cell * steps;
  const found = rows.flatMap((row) => [...row]).filter(Number.isFinite), high = Math.max(...found, 1e-9);
  const cells = (scale) => rows.flatMap((row, d) => [...row].map((value, k) => {
    const x = scale.x(episode.step[d]), place = { x, y: k * cell, width: Math.max(scale.x(endOf(episode, d)) - x - 0.6, 0.6), height: cell - 0.6 };
    const padded = episode.seen && !at(episode.seen, d, k);
    if (padded) return make("svg:rect.wmi-padding", place);
    const bad = settings.worse && settings.worse(d, k);
    return make(`svg:rect.wmi-cell${bad ? ".wmi-worse" : ""}`, { ...place, "fill-opacity": Number.isFinite(value) ? (0.04 + 0.96 * Math.max(value, 0) / high).toFixed(3) : 0 });
  }));
  const marks = (scale) => [...new Set([0, steps - 1])].map((k) => text(scale.left - 6, k * cell + cell / 2 + 3.5, `k=${k + 1}`,
    { class: "wmi-mark", "text-anchor": "end" }));
  const draw = (scale) => [...cells(scale), ...marks(scale), ...(settings.note ? [text(0, 54, settings.note, { class: "wmi-mark" })] : [])];
  return { title, hint, height, draw, owners: [episode], words: (e, d) => (e === episode ? settings.words(rows[d], d) : null),
    brief: settings.brief && ((e, d) => settings.brief(rows[d], d)),
    profile: (d, left) => profile(rows[d], cell, left, high, settings.level) };
}

/** The present column of a map as bars, with a line where they would end if all were alike. */
function profile(row, cell, left, high, alike) {
  const width = 62, long = (value) => (Number.isFinite(value) ? (width * Math.max(value, 0)) / Math.max(high, alike || 0) : 0);
  const bars = [...row].map((value, k) => make("svg:rect.wmi-bar", { x: left, y: k * cell, height: cell - 0.6, width: long(value) }));
  const line = alike ? [make("svg:line.wmi-level", { x1: left + long(alike), x2: left + long(alike), y1: 0, y2: cell * row.length })] : [];
  return [...bars, ...line];
}

function attentionTracks(episodes, pick) {
  return episodes.filter((e) => e.attention).map((e) => {
    const best = (row) => row.indexOf(Math.max(...row));
    const brief = (row) => (Math.max(...row) > 0 ? `most k=${best(row) + 1}, ${percent(row[best(row)])}` : "no usable memory");
    const words = (row) => `${brief(row)} (uniform ${percent(1 / row.length)})`;
    const rows = attentionMap(e.attention, pick);
    return mapTrack("Attention", `${e.arm} s${e.seed}, step k`, e, rows, { words, brief, level: 1 / rows[0].length });
  });
}

function errorTracks(episodes) {
  return episodes.filter((e) => e.error).map((e) => {
    const rows = e.step.map((_, d) => Float64Array.from({ length: e.error.shape[1] }, (_, k) => at(e.error, d, k)));
    const copied = (d) => (e.baseline ? `, copy-last ${number(meanAt(e.baseline, d))}` : "");
    return mapTrack("Prediction error", `${e.arm} s${e.seed}`, e, rows,
      { words: (row, d) => `error ${number(meanAt(e.error, d))}${copied(d)}`, brief: (row, d) => number(meanAt(e.error, d)),
        note: e.baseline && "red: a copy is better", worse: (d, k) => e.baseline && at(e.error, d, k) > at(e.baseline, d, k) });
  });
}

/** The error of the prediction, mean over future steps, from decision to decision; dashed that of copying the present. */
function errorCurve(episode) {
  const mean = (name) => episode.step.map((_, d) => (episode[name] ? meanAt(episode[name], d) : NaN)), own = mean("error"), copied = mean("baseline"), height = 50;
  const high = Math.max(...[...own, ...copied].filter(Number.isFinite), 1e-9) * 1.1, y = (value) => height - (height * Math.min(value, high)) / high;
  const draw = (scale) => [...level(scale, y(0), "0"), ...level(scale, y(high / 1.1), number(high / 1.1)),
    make("svg:path.wmi-plan", { d: stairs(episode, copied, scale, y), style: { stroke: "var(--muted)" } }),
    make("svg:path.wmi-curve", { d: stairs(episode, own, scale, y), style: { stroke: both(episode.colour) } })];
  return { title: "Error against step", hint: `${episode.arm} s${episode.seed}, dashed: copy`, height, draw, owners: [episode],
    words: (e, d) => (e === episode && d >= 0 ? `error ${number(own[d])}, copy-last ${number(copied[d])}` : null), brief: (e, d) => (d >= 0 ? number(own[d]) : "") };
}

/** What was executed, and dashed what the present chunk would have done next. */
function actionTrack(episode) {
  const { actions } = episode, [, horizon, size] = actions.shape, height = 66;
  const finite = actions.values.filter(Number.isFinite), top = Math.max(...finite.map(Math.abs), 1e-6) * 1.05;
  const y = (value) => height / 2 - (height * value) / (2 * top);
  const line = (scale, start, from, to, j) => Array.from({ length: Math.max(to - from, 0) }, (_, i) =>
    `${scale.x(start + from + i).toFixed(1)},${y(at(actions, decisionAt(episode, start), from + i, j)).toFixed(1)}`);
  const played = (scale, j) => episode.step.flatMap((start, d) => line(scale, start, 0, Math.min(endOf(episode, d) - start, horizon), j));
  const colour = (j) => ({ stroke: both(ACTION_COLOURS[j % ACTION_COLOURS.length]) });
  const draw = (scale) => [...level(scale, y(0), "0"), ...level(scale, y(top / 1.05), number(top / 1.05)),
    ...Array.from({ length: size }, (_, j) => make("svg:polyline.wmi-thin", { points: played(scale, j).join(" "), style: colour(j) }))];
  const plan = (d, scale) => Array.from({ length: size }, (_, j) => make("svg:polyline.wmi-plan",
    { points: line(scale, episode.step[d], Math.max(endOf(episode, d) - episode.step[d] - 1, 0), horizon, j).join(" "), style: colour(j) }));
  const words = (e, d, step) => (e !== episode || d < 0 ? null : Array.from({ length: size }, (_, j) =>
    `${episode.names[j]} ${number(at(actions, d, Math.min(step - episode.step[d], horizon - 1), j), true)}`).join(", "));
  return { title: "Actions", hint: `${episode.arm} s${episode.seed}`, height, draw, words, plan, owners: [episode],
    legend: episode.names.map((name, j) => [name, ACTION_COLOURS[j % ACTION_COLOURS.length]]) };
}

/** Milliseconds of each decision, its parts on top of each other. */
function timeTrack(episode) {
  const parts = Object.keys(episode.latency), height = 34;
  const total = (d) => parts.reduce((sum, part) => sum + (episode.latency[part][d] || 0), 0);
  const later = episode.step.slice(1).map((_, d) => total(d + 1)); // the first decision warms up, and may be taller than the axis
  const high = Math.max(...(later.length ? later : [total(0)]), 1e-6);
  const bars = (scale, d) => {
    let below = 0;
    return parts.map((part, i) => {
      const long = Math.min((height * (episode.latency[part][d] || 0)) / high, height - below), x = scale.x(episode.step[d]);
      below += long;
      return make("svg:rect", { x, y: height - below, height: long, width: Math.max(scale.x(endOf(episode, d)) - x - 1, 1), style: { fill: both(ACTION_COLOURS[i]) } });
    });
  };
  const words = (e, d) => (e !== episode ? null : `${number(total(d))} ms: ` + parts.filter((p) => episode.latency[p][d])
    .map((p) => `${p} ${number(episode.latency[p][d])}`).join(", "));
  return { title: "Decision time", hint: `${episode.arm} s${episode.seed}`, height, owners: [episode], words,
    draw: (scale) => [...level(scale, 0, `${number(high)} ms`), ...episode.step.flatMap((_, d) => bars(scale, d))],
    legend: parts.map((part, i) => [part, ACTION_COLOURS[i]]) };
}

/** Sentences over time, one lane for each source; where two sources contradict each other a span is marked. */
function textTracks(episode, play) {
  return [...new Set(episode.spans.map((s) => s.source))].map((source) => {
    const own = episode.spans.filter((s) => s.source === source), height = 24;
    const draw = (scale) => own.map((span) => {
      const x = scale.x(span.start), width = Math.max(scale.x(span.end) - x - 1.5, 3), said = `${span.what}. ${span.why}`;
      const button = make("button.wmi-span", { "aria-label": `${said} Steps ${span.start} to ${span.end}; plays this segment.`,
        title: said + (span.against ? ` — contradicts: ${span.against}` : ""), "data-start": span.start, onclick: () => play(span.start, span.end) }, span.what);
      if (span.against) button.classList.add("wmi-against");
      return make("svg:foreignObject", { x, y: 0, width, height }, button);
    });
    const now = (step) => own.find((s) => s.start <= step && step < s.end);
    const words = (e, d, step) => {
      const span = e === episode && now(step);
      return span ? `${span.what}. ${span.why}${span.against ? ` Contradicts: ${span.against}` : ""}` : null;
    };
    return { title: source, hint: `${episode.arm} s${episode.seed}, click plays`, height, draw, words, owners: [episode], quiet: true };
  });
}

/** Small pictures of the first steps of sentences, as many as there is room for. */
function keyframeTrack(episode, play) {
  const spans = episode.spans.filter((s) => s.picture);
  if (!spans.length) return null;
  const height = 46, width = 58;
  const draw = (scale) => {
    let free = -Infinity;
    return spans.filter((s) => { const x = scale.x(s.start), fits = x >= free; if (fits) free = x + width; return fits; })
      .map((s) => make("svg:image.wmi-keyframe", { x: scale.x(s.start), y: 0, width: width - 3, height, href: s.picture, preserveAspectRatio: "xMinYMid slice", role: "button",
        "aria-label": `${s.what}: play it`, onpointerdown: (event) => event.stopPropagation(), onclick: () => play(s.start, s.end) }));
  };
  const last = (step) => spans.findLast((s) => s.start <= step);
  const words = (e, d, step) => (e === episode && last(step) ? last(step).what : null);
  return { title: "Keyframes", hint: `${episode.arm} s${episode.seed}, click plays`, height, draw, words, owners: [episode], quiet: true };
}

/** All tracks of one or two episodes, top to bottom. */
/** How far the chunks of two episodes are apart, and dashed how far those of two trainings of one arm are. */
function apartTrack(episodes, parting) {
  const distance = parting?.distance || [], usual = parting?.usual || [], height = 50, own = episodes[0];
  if (distance.length < 2 || episodes.length < 2) return null;
  const both_ = { ...own, step: own.step.slice(0, distance.length), steps: own.step[distance.length] ?? own.steps };
  const high = Math.max(...distance, ...usual, 1e-6) * 1.05, y = (value) => height - (height * value) / high;
  const draw = (scale) => [...level(scale, y(0), "0: alike"), ...level(scale, y(high / 1.05), number(high / 1.05)),
    make("svg:path.wmi-curve.wmi-usual", { d: stairs(both_, usual, scale, y), "stroke-dasharray": "4 3" }),
    make("svg:path.wmi-curve.wmi-distance", { d: stairs(both_, distance, scale, y) })];
  const words = (e, d) => (d < distance.length ? `${number(distance[d])} apart${usual.length ? `, two trainings of one arm at most ${number(usual[d])}` : ""}` : null);
  const brief = (e, d) => (d < distance.length ? `${number(distance[d])}${usual.length ? ` (usual ${number(usual[d])})` : ""}` : "one is over");
  return { title: "Chunks apart", hint: usual.length ? "dashed: two trainings" : "spreads of actions", height, draw, words, brief, owners: [own] };
}

function tracksOf(episodes, pick, play, parting) {
  const traced = episodes.filter((e) => e.step.length);
  return [...episodes.flatMap((e) => [keyframeTrack(e, play), ...textTracks(e, play)]), apartTrack(traced, parting), gateTrack(traced), withoutTrack(traced), entropyTrack(traced), ...attentionTracks(traced, pick),
    ...errorTracks(traced), ...traced.filter((e) => e.error).map(errorCurve), ...traced.filter((e) => e.actions).map(actionTrack), ...traced.filter((e) => e.latency).map(timeTrack)]
    .filter(Boolean);
}
