// The host of a notebook: what is looked at is asked of the kernel, a film in pieces.

/** Ask the kernel and await its answer: {answer, buffers}. */
function asker(model) {
  const waiting = new Map();
  let turns = 0;
  model.on("msg:custom", (answer, buffers) => {
    const [resolve, reject, tell] = waiting.get(answer.turn) || [];
    if (answer.progress) return tell?.(...answer.progress);
    waiting.delete(answer.turn);
    if (resolve) answer.error ? reject(new Error(answer.error)) : resolve({ answer, buffers });
  });
  return (question, tell) => new Promise((resolve, reject) => {
    waiting.set(++turns, [resolve, reject, tell]);
    model.send({ ...question, turn: turns });
  });
}

function kernelHost(model) {
  const ask = asker(model), made = [];
  const film = async (episode) => {
    const pieces = [];
    for (let start = 0, size = 1; start < size; ) {
      const { answer, buffers } = await ask({ kind: "film", id: episode.id, start });
      const piece = new Uint8Array(buffers[0].buffer ?? buffers[0], buffers[0].byteOffset ?? 0, buffers[0].byteLength);
      pieces.push(piece);
      if (!piece.length) break;
      start += piece.length;
      size = answer.size;
    }
    made.push(URL.createObjectURL(new Blob(pieces, { type: "video/mp4" })));
    while (made.length > 4) URL.revokeObjectURL(made.shift());
    return made.at(-1);
  };
  const thumbs = new Map(); // asked once, a few kilobytes each; the oldest goes
  const thumb = async (row) => {
    if (!thumbs.has(row.id)) thumbs.set(row.id, (await ask({ kind: "thumb", id: row.id })).answer.thumb);
    while (thumbs.size > 400) thumbs.delete(thumbs.keys().next().value);
    return thumbs.get(row.id);
  };
  let told = 0;
  const moved = ({ episode, beside, t }) => {
    model.set({ episode, beside: beside || "", step: t });
    clearTimeout(told);
    told = setTimeout(() => model.save_changes(), 150);
  };
  const marked = (marks) => { model.set("bookmarks", marks); model.save_changes(); };
  return { about: model.get("about"), bookmarks: model.get("bookmarks"), marked, film, thumb, moved, ask, episode: async (id) => (await ask({ kind: "episode", id })).answer.payload,
    parting: async (id, beside) => (await ask({ kind: "parting", id, beside })).answer.parting,
    place: () => ({ episode: model.get("episode"), beside: model.get("beside"), t: model.get("step") }) };
}

/** The widget's `render`: follows the model where Python sets it. */
async function inspectKernel(model, element) {
  const shown = await inspect(element, kernelHost(model));
  const where = () => shown.state.player?.clock.step;
  model.on("change:step", () => { if (model.get("step") !== where()) shown.state.player?.clock.set(model.get("step")); });
  model.on("change:episode", () => {
    if (model.get("episode") !== shown.state.id) shown.show(model.get("episode"), model.get("beside") || null, model.get("step"));
  });
  return () => shown.state.player?.close();
}
