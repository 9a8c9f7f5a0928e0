// Bookmarked decisions: kept while the page is open, saved as a file of triples that policies play again.

class Bookmarks {
  constructor(rows, host, go) {
    Object.assign(this, { rows, host, go, marks: [...(host.bookmarks || [])] });
    this.list = make("ul", {});
    this.save = make("button", { onclick: () => this.download() }, "Save bookmarks.json");
    this.root = make("section.wmi-marks", { "aria-label": "Bookmarks" }, make("button", { onclick: () => this.add() }, "Bookmark this decision"), " ", this.save, this.list);
    this.draw();
  }
  /** The episode that is shown, and where its player will be. */
  show(id, player) {
    Object.assign(this, { id, player });
  }
  add() {
    const row = this.rows.get(this.id), { clock, episodes } = this.player(), step = Math.min(clock.step, row.steps), decision = decisionAt(episodes[0], step);
    if (this.marks.some((m) => m.episode === row.id && m.step === step)) return;
    this.marks.push({ episode: row.id, task: row.task, init_seed: row.init, noise_seed: row.noise, arm: row.arm, train_seed: row.seed, memory: row.memory,
      step, decision: decision < 0 ? null : decision, note: "" });
    this.told();
  }
  told() {
    this.host.marked?.(this.marks.map((m) => ({ ...m })));
    this.draw();
  }
  draw() {
    this.save.hidden = !this.marks.length;
    this.list.replaceChildren(...this.marks.map((m) => make("li", {}, make("button", { onclick: () => this.go(m.episode, m.step) }, `step ${m.step}`),
      `${m.arm} s${m.train_seed}, ${m.task} ${m.init_seed}${m.decision === null ? "" : `, decision ${m.decision + 1}`}`,
      make("input", { type: "search", value: m.note, placeholder: "note", "aria-label": "Note", onchange: (e) => { m.note = e.target.value; this.host.marked?.(this.marks.map((own) => ({ ...own }))); } }),
      make("button", { onclick: () => { this.marks = this.marks.filter((own) => own !== m); this.told(); } }, "Remove"))));
  }
  download() {
    const address = URL.createObjectURL(new Blob([JSON.stringify(this.marks, null, 1)], { type: "application/json" }));
    make("a", { href: address, download: "bookmarks.json" }).click();
    setTimeout(() => URL.revokeObjectURL(address), 1000);
  }
}
