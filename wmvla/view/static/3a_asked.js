// What was asked about an episode, and what can be: another memory, what its heads do, whether it foresaw what came, where it looks, its path.

const MEMORY_WORDS = { zero: "zeros", random: "noise", shuffle: "another episode's", history: "its own past", present: "the present again",
  off: "none", pred: "its own prediction", "oracle-expert": "the true future, the expert acting", "oracle-world": "the true future, the hand still" };
const FINDINGS = { imagined: "Hold its predictions against what came", heads: "Rank its heads by taking each out",
  without: "Take its memory away, decision by decision", sight: "Where its encoder looks", path: "Its path through latent space", truth: "Say what happened (simulator)" };
const SHEET_WORDS = { came: "came", nearest: "nearest real frame", decoded: "predicted, decoded" };

/** A picture of a sheet as an element; `place` counts from its upper left. */
function cutOut(sheet, place, height, words) {
  const [wide, high] = sheet.size, scale = height / high, x = place % sheet.across, y = Math.floor(place / sheet.across);
  return make("div.wmi-cut", { role: "img", "aria-label": words, title: words, style: { width: `${wide * scale}px`, height: `${height}px`,
    "background-image": `url("${sheet.uri}")`, "background-size": `${wide * scale * sheet.across}px auto`,
    "background-position": `${-x * wide * scale}px ${-y * height}px` } });
}

/** What was predicted at the present decision beside what came, some steps ahead; follows the clock. */
function imaginedPanel(episode, clock) {
  if (!episode.sheets) return null;
  const { ahead, sheets, step } = episode, body = make("tbody", {}), caption = make("figcaption", {});
  let shown = null;
  clock.listeners.push(() => {
    const d = decisionAt(episode, clock.step);
    if (d === shown) return;
    shown = d;
    const over = (k) => step[d] + k > episode.steps;
    const cell = (name, k, i) => make("td", {}, over(k) ? make("span.wmi-over", {}, "over") : cutOut(sheets[name], d * ahead.length + i, 60,
      name === "nearest" && episode.near ? `most like step ${episode.near[d][i]}` : `${SHEET_WORDS[name]}, ${k} ahead`));
    const rows = Object.keys(sheets).map((name) => make("tr", {}, make("th", { scope: "row" }, SHEET_WORDS[name]), ahead.map((k, i) => cell(name, k, i))));
    const gaps = ahead.map((k) => make("td", {}, over(k) ? "" : `${number(at(episode.error, d, k - 1))}`, make("small", {}, over(k) ? "" : ` / ${number(at(episode.baseline, d, k - 1))}`)));
    body.replaceChildren(make("tr", {}, make("th", {}, "steps ahead"), ahead.map((k) => make("td", {}, k))), ...rows,
      make("tr", {}, make("th", { scope: "row" }, "error / copy-last"), gaps));
    const every = Array.from({ length: episode.error.shape[1] }, (_, i) => i + 1).filter((k) => !over(k));
    const worse = every.filter((k) => at(episode.error, d, k - 1) > at(episode.baseline, d, k - 1));
    caption.className = worse.length ? "wmi-worse-words" : "";
    caption.textContent = worse.length ? `Worse than copying the present ${worse.join(", ")} ahead, of ${every.length}.`
      : every.length ? `At none of ${every.length} steps ahead worse than copying the present.` : "";
  });
  return make("figure.wmi-imagined", { "aria-label": `Imagined beside realised, ${episode.arm}` },
    make("h4", {}, chip(episode), " imagined beside realised"), make("table", {}, body), caption);
}

/** A map of where the encoder looks, over a film that shows several cameras side by side; returns a canvas that follows the clock. */
function sightOver(episode, clock) {
  if (!episode.sight) return null;
  const { maps, how } = episode.sight, [, rows, columns] = maps.shape, canvas = make("canvas.wmi-sight", { width: columns, height: rows, "aria-label": how, hidden: true });
  canvas.style.width = `${100 / Math.max(1, episode.cameras.length)}%`;
  const draw = () => {
    const d = Math.max(0, decisionAt(episode, clock.step)), pen = canvas.getContext("2d"), image = pen.createImageData(columns, rows);
    for (let i = 0; i < rows * columns; i++) {
      const strong = maps.values[d * rows * columns + i];
      image.data.set([255, 200, 40, Math.round(0.72 * strong)], 4 * i);
    }
    pen.putImageData(image, 0, 0);
  };
  clock.listeners.push(draw);
  return canvas;
}

/** Heads in the order of what their absence changes; a click shows that head's attention. */
function rankedHeads(episode, pick, changed) {
  if (!episode.heads || !episode.heads.length) return null;
  const top = Math.max(...episode.heads.map((h) => h.effect), 1e-12), several = new Set(episode.heads.map((h) => h.layer)).size > 1;
  const one = (h) => make("button.wmi-head-effect", { title: `without it the chunk changes by ${number(h.effect)} spreads of the actions`,
    style: { "--long": `${(100 * h.effect) / top}%` }, onclick: () => { pick[0] = several ? h.layer : pick[0]; pick[1] = h.head; changed(); } },
  `${several ? `layer ${h.layer}, ` : ""}head ${h.head}`, make("small", {}, ` ${number(h.effect)}`));
  return make("div.wmi-ranked", { "aria-label": `Heads of ${episode.arm} by effect` }, make("span", {}, `Heads of ${episode.arm} by what their absence changes, over the whole episode`), episode.heads.map(one));
}

/** The recorded chunk and another one, an action a line: what is asked for dashed. */
function chunkChart(episode, found) {
  const recorded = unpack(found.recorded), other = unpack(found.chunk), [horizon, size] = recorded.shape, width = 360, height = 104;
  const top = Math.max(...[...recorded.values, ...other.values].filter(Number.isFinite).map(Math.abs), 1e-6) * 1.05;
  const x = (i) => 6 + ((width - 12) * i) / Math.max(horizon - 1, 1), y = (v) => height / 2 - (height * v) / (2 * top);
  const line = (chunk, j, name) => make(`svg:polyline.${name}`, { points: Array.from({ length: horizon }, (_, i) => `${x(i).toFixed(1)},${y(at(chunk, i, j)).toFixed(1)}`).join(" "),
    style: { stroke: both(ACTION_COLOURS[j % ACTION_COLOURS.length]) } });
  const zero = make("svg:line.wmi-grid", { x1: 0, x2: width, y1: y(0), y2: y(0) });
  const lines = Array.from({ length: size }, (_, j) => [line(recorded, j, "wmi-thin"), line(other, j, "wmi-plan")]).flat();
  const names = episode.names.map((name, j) => make("span", { style: { color: both(ACTION_COLOURS[j % ACTION_COLOURS.length]) } }, `${name} `));
  const words = `Chunk of decision ${found.decision + 1}: recorded solid, with ${MEMORY_WORDS[found.memory] || found.memory} dashed`;
  return make("figure.wmi-chunk", {}, make("svg:svg", { width, height, role: "img", "aria-label": words }, zero, lines),
    make("figcaption", {}, "solid: recorded, dashed: asked. ", names));
}

/** What other memories would have done at a decision, one line each, the last one drawn. */
function answersOf(episode, found) {
  const own = found.filter((f) => f.id === episode.id), last = own.at(-1), top = Math.max(...own.map((f) => f.distance), 1e-12);
  const row = (f) => make("tr", {}, make("td", {}, `decision ${f.decision + 1}`), make("td", {}, MEMORY_WORDS[f.memory] || f.memory),
    make("td", {}, make("i.wmi-long", { style: { width: `${(120 * f.distance) / top}px` } }), ` ${number(f.distance)}`));
  return last ? [chunkChart(episode, last), make("table.wmi-answers", {}, make("caption", {}, "change of the chunk, in spreads of the actions"), own.map(row))] : [];
}

/** The panel of one episode: its policy is asked through the kernel. */
function askOne(episode, clock, host, state) {
  const { memories, donors, found, silent } = episode.ask, said = make("output.wmi-asked", { role: "status" }), answers = make("div.wmi-answer", {}, answersOf(episode, state.asked));
  const memory = make("select", { "aria-label": "Another memory", onchange: () => { donor.hidden = memory.value !== "shuffle"; } }, memories.map((m) => make("option", { value: m }, MEMORY_WORDS[m] || m)));
  const donor = make("select", { "aria-label": "Whose memory", hidden: memories[0] !== "shuffle" }, donors.map((d) => make("option", { value: d.id }, d.words)));
  const buttons = [];
  const asking = async (question, what) => {
    buttons.forEach((b) => { b.disabled = true; });
    said.textContent = "asking the kernel …";
    try {
      const { answer } = await host.ask(question, (done, of) => { said.textContent = `replaying decision ${done} of ${of} …`; });
      said.textContent = "";
      what(answer);
    } catch (error) { said.textContent = error.message; }
    buttons.forEach((b) => { b.disabled = false; });
  };
  const what_if = () => {
    clock.pause();
    const decision = decisionAt(episode, clock.step), more = memory.value === "shuffle" ? { donor: donor.value } : {};
    asking({ kind: "what_if", id: episode.id, decision, memory: memory.value, ...more }, (answer) => {
      state.asked.push({ ...answer.what_if, id: episode.id });
      answers.replaceChildren(...answersOf(episode, state.asked));
    });
  };
  const find = (name) => () => asking({ kind: "find", id: episode.id, what: name }, () => state.again());
  buttons.push(...(memories.length ? [make("button.wmi-go", { onclick: what_if }, "What if?")] : []),
    ...Object.entries(FINDINGS).filter(([name]) => name in found && !found[name]).map(([name, words]) => make("button.wmi-find", { "data-find": name, onclick: find(name) }, words)));
  const first = memories.length ? [make("label", {}, "memory of this decision ", memory), donor, buttons[0]] : [make("span", {}, silent || "It has no memory that could be replaced.")];
  return make("section.wmi-ask", { "aria-label": `Ask ${episode.arm}` }, make("h4", {}, chip(episode), " asked again"), make("div.wmi-askline", {}, first, said),
    answers, make("div.wmi-askline", {}, buttons.slice(memories.length ? 1 : 0)));
}

/** The panels of all episodes whose policy is known; a sentence where nobody can be asked. */
function askPanel(episodes, clock, host, state) {
  const traced = episodes.filter((e) => e.step.length);
  if (!traced.length) return null;
  const unasked = traced.some((e) => e.attention && !e.sheets) ? " Nobody has asked yet what was predicted here, which heads matter and where the encoder looks: buttons there do." : "";
  if (!host.ask) return make("p.wmi-asknote", {}, "What if its memory had been another? The policy answers that, so it needs a kernel: ", make("code", {}, "open_run(…).inspect()"), " in JupyterLab.", unasked);
  return make("div.wmi-asks", {}, traced.filter((e) => e.ask).map((e) => askOne(e, clock, host, state)));
}
