// All episodes of a run: sorted, filtered, of any number, because only the visible rows are drawn.

const ROW = 27; // pixels of a row
const COLUMNS = [["success", "", "outcome"], ["arm", "arm", "arm and training seed"], ["task", "task", "task"], ["init", "state", "initial state"],
  ["steps", "steps", "environment steps"], ["same", "seeds", "share of the trainings of this arm that succeed here"]];

/** Rows that fit the filters, in the order asked for. */
function chosenRows(rows, filter, sort) {
  const fits = (r) => (!filter.task || r.task === filter.task) && (!filter.arm || r.arm === filter.arm) && (!filter.disagree || r.disagree) &&
    (!filter.seen || r.film || r.trace) && (!filter.grasped || (r.grasped && !r.success)) && (!filter.outcome || r.success === (filter.outcome === "success"));
  const by = (r) => r[sort.name], sign = sort.down ? -1 : 1;
  const order = (a, b) => (by(a) < by(b) ? -sign : by(a) > by(b) ? sign : a.place - b.place);
  return rows.filter(fits).sort(order);
}

/** The list; `open(row)` is called with the row that is chosen. */
class EpisodeList {
  constructor(rows, open) {
    this.rows = rows.map((r, place) => ({ ...r, place, key: `${r.id}` }));
    Object.assign(this, { open, filter: {}, sort: { name: "place", down: false }, selected: null });
    this.count = make("p.wmi-count", { role: "status" });
    this.inside = make("div.wmi-rows", { role: "presentation" });
    this.view = make("div.wmi-scroll", { tabindex: 0, role: "listbox", "aria-label": "Episodes: up and down arrows choose" }, this.inside);
    this.view.addEventListener("scroll", () => this.paint());
    this.view.addEventListener("keydown", (e) => this.key(e));
    this.peek = make("img.wmi-peek", { hidden: true, alt: "" });
    this.inside.addEventListener("pointermove", (e) => this.look(e));
    this.inside.addEventListener("pointerleave", () => this.look(null));
    this.heads = COLUMNS.map(([name, short, long]) => make(`button.wmi-h-${name}`, { title: `sort by ${long}`, "aria-label": `sort by ${long}`, onclick: () => this.sortBy(name) }, short || "✓"));
    this.root = make("aside.wmi-list", { "aria-label": "Episodes" }, this.filters(), this.count, make("div.wmi-heads", {}, this.heads), this.view, this.peek);
    new ResizeObserver(() => this.paint()).observe(this.view);
    this.update();
  }
  filters() {
    const values = (name) => [...new Set(this.rows.map((r) => r[name]))];
    const choice = (name, all, options) => make("select", { "aria-label": all, "data-filter": name, onchange: (e) => { this.filter[name] = e.target.value; this.update(); } },
      make("option", { value: "" }, all), options.map((o) => make("option", { value: o }, o)));
    const tick = (name, words, why = "") => make("label", { title: why, class: why && "wmi-grey" }, make("input", { type: "checkbox", "data-filter": name, disabled: Boolean(why), onchange: (e) => { this.filter[name] = e.target.checked; this.update(); } }), ` ${words}`);
    return make("div.wmi-filters", {}, choice("task", "all tasks", values("task")), choice("arm", "all arms", values("arm")),
      choice("outcome", "all outcomes", ["success", "failure"]), tick("disagree", "arms disagree"), tick("seen", "with film or trace"), tick("grasped", "failed after grasp", this.unknownGrasps()));
  }
  /** Why nothing is known of grasps; empty where something is. */
  unknownGrasps() {
    return this.rows.some((r) => r.grasped !== null && r.grasped !== undefined) ? "" : "Nobody told what happens in these episodes: `wmvla coc generate RUN` does, from their traces.";
  }
  /** The picture of the row under the pointer; `thumb` is given by the host, once a row. */
  async look(event) {
    const id = event?.target.closest(".wmi-row")?.dataset.id ?? null;
    if (event && id === this.peeked) return this.movePeek(event);
    this.peeked = id;
    this.peek.hidden = true;
    const row = id && this.rows.find((r) => r.id === id);
    if (!row || !row.film || !this.thumb) return;
    const source = await this.thumb(row);
    if (this.peeked !== id || !source) return;
    Object.assign(this.peek, { src: source, hidden: false, alt: `${row.arm} on ${row.task}, the middle of its film` });
    this.movePeek(event);
  }
  movePeek(event) {
    Object.assign(this.peek.style, { left: `${event.clientX + 18}px`, top: `${Math.min(event.clientY + 12, innerHeight - 150)}px` });
  }
  sortBy(name) {
    this.sort = { name, down: this.sort.name === name ? !this.sort.down : false };
    this.update();
  }
  update() {
    this.shown = chosenRows(this.rows, this.filter, this.sort);
    this.count.textContent = `${this.shown.length} of ${this.rows.length} episodes`;
    this.inside.style.height = `${this.shown.length * ROW}px`;
    this.heads.forEach((head, i) => head.setAttribute("aria-sort", COLUMNS[i][0] !== this.sort.name ? "none" : this.sort.down ? "descending" : "ascending"));
    this.view.scrollTop = 0;
    this.paint();
  }
  paint() {
    const first = Math.max(0, Math.floor(this.view.scrollTop / ROW) - 4), last = first + Math.ceil((this.view.clientHeight || 600) / ROW) + 8;
    this.inside.replaceChildren(...this.shown.slice(first, last).map((row, i) => this.line(row, first + i)));
  }
  line(row, place) {
    const chosen = row.key === this.selected, task = row.task.split("+")[0];
    return make(`div.wmi-row${chosen ? ".wmi-chosen" : ""}`, { role: "option", "aria-selected": String(chosen), "data-id": row.id, style: { top: `${place * ROW}px` }, onclick: () => this.choose(row), title: `${row.task}, ${row.memory}` },
      make(`span.wmi-${row.success ? "won" : "lost"}`, { "aria-label": row.success ? "success" : "failure" }, row.success ? "✓" : "✕"), chip(row),
      make("span.wmi-task", {}, task), make("span.wmi-num", {}, row.init), make("span.wmi-num", {}, row.steps),
      make("span.wmi-num", { title: `${row.won} of ${row.of} trainings of ${row.arm} succeed here` }, row.of > 1 ? `${row.won}/${row.of}` : "–"),
      make("span.wmi-has", { title: [row.film && "film", row.trace && "trace", row.disagree && "arms disagree"].filter(Boolean).join(", ") }, (row.film ? "▮" : "") + (row.trace ? "∿" : "")));
  }
  choose(row) {
    this.selected = row.key;
    this.paint();
    this.open(row);
  }
  key(event) {
    const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!by) return;
    event.preventDefault();
    event.stopPropagation();
    const place = this.shown.findIndex((r) => r.key === this.selected), next = this.shown[Math.max(0, Math.min(this.shown.length - 1, place + by))];
    if (next) { this.choose(next); this.reveal(); }
  }
  reveal() {
    const top = this.shown.findIndex((r) => r.key === this.selected) * ROW;
    if (top < this.view.scrollTop || top > this.view.scrollTop + this.view.clientHeight - ROW) this.view.scrollTop = top - 3 * ROW;
    this.paint();
  }
}
