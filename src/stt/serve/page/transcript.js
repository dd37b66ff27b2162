// The transcript on the page: played, searched, edited, downloaded.

import { at, edited, fromJson, fromSegment, renamed, speakers, UNSURE } from "./document.js";
import { download, element, made, say } from "./elements.js";
import { clock, TYPES, written } from "./formats.js";

export class TranscriptView {
  constructor() {
    this.file = null; // whose transcript is shown
    this.document = null;
    this.spans = []; // what can be lit, rising: {start, end, node}
    this.lit = -1;
    this.current = 0; // which span the keyboard is at
    this.editing = false;
    this.kept = new WeakMap(); // file -> document, with what was edited
    this.player = element("player");
    this.text = element("text");
    this.wire();
  }

  wire() {
    const follow = () => {
      this.light(this.player.currentTime);
      if (!this.player.paused) requestAnimationFrame(follow);
    };
    for (const kind of ["play", "seeked", "timeupdate"]) this.player.addEventListener(kind, follow);
    this.player.addEventListener("error", () => this.unplayable());
    element("speed").addEventListener("change", ({ target }) => {
      this.player.playbackRate = Number(target.value);
    });
    element("search").addEventListener("input", () => this.search());
    element("edit").addEventListener("click", () => this.edit(!this.editing));
    for (const button of document.querySelectorAll("[data-form]")) {
      button.addEventListener("click", () => this.save(button.dataset.form));
    }
    this.text.addEventListener("click", ({ target }) => {
      if (target.dataset.at !== undefined && !this.editing) this.go(Number(target.dataset.at));
    });
    this.text.addEventListener("keydown", (event) => this.key(event));
    this.text.addEventListener("focusout", ({ target }) => this.take(target));
  }

  // --- what is shown ------------------------------------------------------------------------

  /** A recording is under way: show what comes of it, unless another is being read. */
  begin(file) {
    if (this.file && this.document) return;
    this.reset(file);
    element("transcript-facts").textContent = "under way";
  }

  segment(file, told) {
    if (this.file !== file || this.document) return;
    this.text.append(this.row(fromSegment(told), this.text.children.length));
  }

  clear(file) {
    if (this.file !== file || this.document) return;
    element("transcript").hidden = true;
    this.file = null;
  }

  /** A recording is done; it is shown where it was under way here. */
  finished(file, json) {
    if (this.file === file) this.show(file, json);
  }

  /** Show a document with its sound. */
  show(file, json, name = file.name) {
    this.reset(file, name);
    this.document = this.kept.get(file) ?? fromJson(name, json);
    this.kept.set(file, this.document);
    this.draw();
    const { model, precision, provider, reason, duration, coverage } = json;
    element("transcript-facts").textContent = `${clock(duration)}; ${model}, ${precision} on ${provider}`;
    element("transcript-facts").title = reason;
    const told = coverage ? [...coverage.failures, ...coverage.notes] : [];
    element("notes").replaceChildren(...told.map((line) => made("li", { textContent: line })));
    element("transcript").focus({ preventScroll: true });
  }

  reset(file, name = file.name) {
    if (this.editing) this.edit(false);
    if (this.file !== file) this.load(file);
    this.file = file;
    this.document = null;
    this.spans = [];
    this.lit = -1;
    element("transcript").hidden = false;
    element("transcript-title").textContent = name || "Transcript";
    element("search").value = "";
    element("found").textContent = "";
    element("hint").textContent = "";
    this.text.replaceChildren();
    element("notes").replaceChildren();
    element("speakers").hidden = true;
  }

  load(sound) {
    if (this.player.src) URL.revokeObjectURL(this.player.src);
    element("player-message").hidden = true;
    this.player.src = URL.createObjectURL(sound);
    this.player.playbackRate = Number(element("speed").value);
  }

  draw() {
    const { segments } = this.document;
    this.text.replaceChildren(...segments.map((segment, index) => this.row(segment, index)));
    this.index();
    this.drawSpeakers();
    const nothing = segments.some((one) => one.text) ? "" : "Nothing was said, or nothing that could be recognised.";
    const unsure = segments.some(({ words }) => words.some(isUnsure)) ? "Dotted words are uncertain. " : "";
    const how = segments.some(({ words }) => words.length) ? "Click a word to hear it." : "Click a line to hear it: this model does not tell when each word was said.";
    element("hint").textContent = nothing || unsure + how;
    this.search();
  }

  row(segment, index) {
    const words = made("p", { className: "words" });
    if (segment.words.length) {
      for (const [place, word] of segment.words.entries()) words.append(place ? " " : "", spoken(word));
    } else words.append(made("span", { className: "word", textContent: segment.text, tabIndex: -1, dataset: { at: segment.start } }));
    const time = made("button", { type: "button", className: "time", textContent: clock(segment.start), dataset: { at: segment.start } });
    time.setAttribute("aria-label", `Play from ${clock(segment.start)}`);
    const row = made("div", { className: "said", dataset: { segment: index } });
    if (segment.speaker) row.append(made("span", { className: "who", textContent: segment.speaker }));
    row.append(time, words);
    return row;
  }

  /** Note what can be lit; one word at a time is met by the Tab key. */
  index() {
    const nodes = [...this.text.querySelectorAll(".word")];
    const flat = this.document.segments.flatMap((segment) => (segment.words.length ? segment.words : [segment]));
    this.spans = flat.map(({ start, end }, place) => ({ start, end, node: nodes[place] }));
    this.current = Math.min(this.current, Math.max(0, nodes.length - 1));
    if (nodes[this.current]) nodes[this.current].tabIndex = 0;
    this.lit = -1;
  }

  // --- playing ------------------------------------------------------------------------------

  go(seconds) {
    this.player.currentTime = seconds;
    this.player.play().catch((error) => {
      if (error.name === "NotSupportedError") this.unplayable();
      else if (error.name !== "AbortError") throw error;
    });
  }

  unplayable() {
    if (!this.file) return;
    element("player-message").textContent = "This browser cannot play this kind of file; the transcript is complete all the same.";
    element("player-message").hidden = false;
  }

  light(seconds) {
    if (!this.document) return;
    let place = at(this.spans, seconds + 0.02);
    if (place >= 0 && seconds > this.spans[place].end + 0.3) place = -1;
    if (place === this.lit) return;
    this.spans[this.lit]?.node.classList.remove("lit");
    this.lit = place;
    const node = this.spans[place]?.node;
    node?.classList.add("lit");
    if (node && !this.player.paused) shown(node);
  }

  key(event) {
    if (this.editing || !event.target.classList.contains("word")) return;
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (step) this.move(Math.max(0, Math.min(this.spans.length - 1, this.current + step)));
    else if (event.key === "Enter" || event.key === " ") this.go(Number(event.target.dataset.at));
    else return;
    event.preventDefault();
  }

  move(place) {
    this.spans[this.current].node.tabIndex = -1;
    this.current = place;
    const { node } = this.spans[place];
    node.tabIndex = 0;
    node.focus();
  }

  // --- searching, editing, saving -----------------------------------------------------------

  search() {
    const wanted = element("search").value.trim().toLocaleLowerCase();
    let [count, first] = [0, null];
    for (const row of this.text.children) {
      const words = [...row.querySelectorAll(".word")];
      const texts = words.map((word) => word.textContent.toLocaleLowerCase());
      const starts = [];
      let length = 0;
      for (const text of texts) {
        starts.push(length);
        length += text.length + 1;
      }
      const hit = new Set();
      const whole = texts.join(" ");
      for (let place = wanted ? whole.indexOf(wanted) : -1; place >= 0; place = whole.indexOf(wanted, place + wanted.length)) {
        count += 1;
        starts.forEach((start, index) => start < place + wanted.length && start + texts[index].length > place && hit.add(index));
      }
      words.forEach((word, index) => word.classList.toggle("found", hit.has(index)));
      first ??= words.find((_, index) => hit.has(index)) ?? null;
    }
    element("found").textContent = wanted ? `${count || "none"} found` : "";
    if (first) shown(first);
  }

  edit(on) {
    if (!this.document && on) return;
    if (!on) this.take(document.activeElement);
    this.editing = on;
    element("edit").setAttribute("aria-pressed", String(on));
    element("edit").textContent = on ? "Done" : "Edit";
    for (const [index, row] of [...this.text.children].entries()) {
      const words = row.querySelector(".words");
      if (!on) continue;
      const { start, text } = this.document.segments[index];
      words.textContent = text;
      words.contentEditable = "plaintext-only";
      words.setAttribute("role", "textbox");
      words.setAttribute("aria-multiline", "true");
      words.setAttribute("aria-label", `Said at ${clock(start)}`);
    }
    if (on) {
      element("hint").textContent = "Change the text; every word keeps its time, and a changed one has the time of what it replaces.";
      this.text.querySelector(".words")?.focus();
    } else if (this.document) this.draw();
  }

  /** Take what was changed in a segment that is left. */
  take(node) {
    if (!this.editing || !node?.classList?.contains("words")) return;
    const index = Number(node.parentElement.dataset.segment);
    this.document.segments[index] = edited(this.document.segments[index], node.textContent);
  }

  drawSpeakers() {
    const names = speakers(this.document.segments);
    element("speakers").hidden = !names.length;
    element("speakers").replaceChildren(
      ...names.map((name, index) => {
        const input = made("input", { value: name, size: 12, autocomplete: "off" });
        input.addEventListener("change", () => this.rename(name, input.value.trim() || name));
        return made("label", {}, `Speaker ${index + 1} `, input);
      }),
    );
  }

  rename(speaker, name) {
    this.document.segments = renamed(this.document.segments, speaker, name);
    this.draw();
    say(`${speaker} is ${name} now`);
  }

  save(form) {
    if (!this.document) return;
    this.take(document.activeElement);
    const stem = (this.document.source || "transcript").replace(/\.[^.]*$/u, "");
    download(new Blob([written(this.document, form)], { type: TYPES[form] }), `${stem}.${form}`);
  }
}

function isUnsure({ confidence }) {
  return confidence !== null && confidence < UNSURE;
}

function spoken(word) {
  const node = made("span", { className: "word", textContent: word.text, tabIndex: -1, dataset: { at: word.start } });
  if (isUnsure(word)) {
    node.classList.add("unsure");
    node.title = `${Math.round(100 * word.confidence)} % sure`;
  }
  if (word.edited) node.classList.add("edited");
  return node;
}

/** Bring a word into view where it is out of it. */
function shown(node) {
  const { top, bottom } = node.getBoundingClientRect();
  if (top < 0 || bottom > window.innerHeight) node.scrollIntoView({ block: "center" });
}
