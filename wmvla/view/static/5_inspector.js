// List and player together; where episodes come from is the host's: the page itself, or a kernel.

/** {episode, beside, t} of an address: ?episode=...&t=... or the same behind #. */
function addressOf(place) {
  const read = (part) => Object.fromEntries(new URLSearchParams(part.replace(/^[?#]/, "")));
  return { ...read(place.search), ...read(place.hash) };
}

/** Where two episodes part: known to the page, or asked of the host. */
async function partingOf(host, names) {
  const known = (host.about.partings || {})[names.join(" ")];
  return known || (host.parting ? host.parting(...names) : null);
}

/** The inspector in `element`. Host: {about, episode(id), film(episode), place(), moved(where)} and maybe parting(a, b). */
async function inspect(element, host) {
  const { about } = host, rows = about.rows, byId = new Map(rows.map((r) => [r.id, r]));
  const stage = make("div.wmi-stage", {}), state = { player: null, turn: 0, asked: [] };
  const head = [about.title && make("h2", {}, about.title), (about.sentences || []).length && make("ul.wmi-evidence", {}, about.sentences.map((s) => make("li", {}, s)))];
  const root = make("div.wmi", {}, make("header.wmi-header", {}, head.filter(Boolean)), make("div.wmi-body", {}, stage));
  element.replaceChildren(root);

  const marks = new Bookmarks(byId, host, (id, step) => show(id, (about.beside || {})[id] || null, step));
  const show = async (id, beside = null, step = 0) => {
    const turn = ++state.turn, names = [id, beside].filter((name) => byId.has(name));
    if (!names.length) return;
    let found;
    try { found = await Promise.all(names.map((name) => host.episode(name))); }
    catch (error) { if (turn === state.turn) stage.replaceChildren(make("p.wmi-said", {}, error.message)); return; }
    if (turn !== state.turn) return;
    state.player?.close();
    const parting = names.length > 1 ? await partingOf(host, names) : null;
    if (turn !== state.turn) return;
    state.id = names[0];
    const moved = (clock) => host.moved({ episode: names[0], beside: names[1], t: clock.step });
    state.again = () => show(names[0], names[1], state.player.clock.step);
    marks.show(names[0], () => state.player);
    state.player = makePlayer(found, host, { step, parting, onmove: moved, state });
    stage.replaceChildren(...[rows.length > 1 ? companion(names, show, state) : null].filter(Boolean), state.player.root, marks.root);
    list?.mark(names[0]);
  };

  /** Which other episode of the same triple stands beside this one. */
  function companion(names, again) {
    const own = byId.get(names[0]), same = rows.filter((r) => r.id !== own.id && r.task === own.task && r.init === own.init && r.noise === own.noise);
    if (!same.length) return null;
    const options = same.map((r) => make("option", { value: r.id, selected: r.id === names[1] }, `${r.arm} s${r.seed}, ${r.memory}: ${r.success ? "✓" : "✕"} ${r.steps} steps${r.trace ? "" : ", no trace"}`));
    const choose = make("select", { "aria-label": "Episode beside this one", onchange: (e) => again(names[0], e.target.value || null, state.player.clock.step) },
      make("option", { value: "" }, "nothing"), options);
    return make("label.wmi-companion", {}, "Beside it, on the same initial state: ", choose);
  }

  root.addEventListener("keydown", (event) => {
    if (event.key !== "b" || event.ctrlKey || event.metaKey || event.altKey || !event.target.closest(".wmi-player") || event.target.closest("select, input")) return;
    event.preventDefault();
    event.stopPropagation();
    marks.add();
  });
  let list = null;
  if (rows.length > 1) {
    list = new EpisodeList(rows, (row) => show(row.id, (about.beside || {})[row.id] || null));
    list.thumb = host.thumb;
    list.mark = (id) => { list.selected = id; list.reveal(); };
    root.querySelector(".wmi-body").prepend(list.root);
  }
  const asked = host.place(), first = byId.has(asked.episode) ? asked.episode : about.first || rows[0]?.id;
  if (asked.episode && !byId.has(asked.episode)) head.push(root.querySelector("header").appendChild(make("p.wmi-said", {}, `There is no episode ${asked.episode} here; another is shown.`)));
  const given = asked.episode === first;
  if (first) await show(first, given ? asked.beside || null : (about.beside || {})[first] || null, given ? Number(asked.t) || 0 : 0);
  else stage.replaceChildren(make("p.wmi-said", {}, about.empty || "There are no episodes here."));
  return { show, state, list };
}

/** The host of a page that holds everything: episodes as JSON in script elements, films as data or as files beside it. */
function pageHost(about) {
  const made = [];
  const read = (id) => document.querySelector(`script[data-episode="${CSS.escape(id)}"]`);
  const film = async (episode) => {
    if (!episode.film.startsWith("data:")) return episode.film;
    const [kind, data] = episode.film.slice(5).split(";base64,"), bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
    made.push(URL.createObjectURL(new Blob([bytes], { type: kind })));
    while (made.length > 4) URL.revokeObjectURL(made.shift());
    return made.at(-1);
  };
  const episode = async (id) => {
    const holder = read(id), row = about.rows.find((r) => r.id === id);
    return holder ? JSON.parse(holder.textContent) : { ...row, step: [], spans: [], cameras: [], notes: [about.missing || "Neither film nor trace of this episode is in this page."] };
  };
  const moved = ({ episode: id, beside, t }) => {
    const words = new URLSearchParams({ episode: id, ...(beside ? { beside } : {}), t });
    try { history.replaceState(null, "", `#${words}`); } catch { /* a frame without an address of its own */ }
  };
  const thumb = async (row) => (about.thumbs || {})[row.id] || null;
  return { about, episode, film, thumb, moved, place: () => addressOf(location) };
}

/** A page inside another one is as tall as what it shows. */
function fillFrame() {
  let frame = null;
  try { frame = window.frameElement; } catch { /* of another origin: it stays as it is */ }
  if (!frame) return;
  const body = document.getElementById("wmi");
  new ResizeObserver(() => { frame.style.height = `${Math.ceil(body.getBoundingClientRect().height) + 8}px`; }).observe(body);
}

/** Start the page: what is known of all episodes stands in `script#wmi-about`. */
function openPage() {
  const about = JSON.parse(document.getElementById("wmi-about").textContent);
  fillFrame();
  return inspect(document.getElementById("wmi"), pageHost(about));
}
