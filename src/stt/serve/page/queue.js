// Recordings that wait, are under way and are done: one after the other, in the order in which they came.

import { element, made, say } from "./elements.js";
import { clock } from "./formats.js";
import { transcribe } from "./server.js";

/**
 * Wire the drop area and the queue. `view` has begin(file), segment(segment), show(file, json),
 * and clear(file); `ask` asks the server anew: it may have loaded its model now, or want a key.
 */
export function wireQueue(view, ask) {
  const queue = new Queue(view, ask);
  const input = element("files");
  input.addEventListener("change", () => {
    queue.add([...input.files]);
    input.value = "";
  });
  const drop = element("drop");
  for (const kind of ["dragenter", "dragover"]) {
    window.addEventListener(kind, (event) => {
      event.preventDefault();
      drop.classList.add("over");
    });
  }
  for (const kind of ["dragleave", "drop"]) {
    window.addEventListener(kind, (event) => {
      event.preventDefault();
      drop.classList.remove("over");
    });
  }
  window.addEventListener("drop", (event) => queue.add([...event.dataTransfer.files]));
  return queue;
}

class Queue {
  constructor(view, ask) {
    this.view = view;
    this.ask = ask;
    this.waiting = [];
    this.running = null;
  }

  add(files) {
    for (const file of files) this.waiting.push(new Item(file, this));
    element("queue-part").hidden = !element("queue").children.length;
    this.next();
  }

  async next() {
    if (this.running || !this.waiting.length) return;
    const item = this.waiting.shift();
    this.running = item;
    await item.run();
    this.running = null;
    this.next();
  }

  /** Take an item out of the queue, whether it waits or is under way. */
  drop(item) {
    this.waiting = this.waiting.filter((one) => one !== item);
    item.work?.cancel();
  }
}

class Item {
  constructor(file, queue) {
    this.file = file;
    this.queue = queue;
    this.work = null;
    this.name = made("span", { className: "name", textContent: file.name });
    this.state = made("span", { className: "state", textContent: "waiting" });
    this.progress = made("progress", { max: 1, value: 0, ariaLabel: `Progress of ${file.name}` });
    this.actions = made("span", { className: "actions" });
    this.row = made("li", {}, this.name, this.state, this.actions, this.progress);
    this.offer("Cancel", () => this.cancel());
    element("queue").append(this.row);
  }

  /** One button for what can be done now. */
  offer(...pairs) {
    this.actions.replaceChildren();
    for (let at = 0; at < pairs.length; at += 2) {
      const button = made("button", { type: "button", textContent: pairs[at], ariaLabel: `${pairs[at]} ${this.file.name}` });
      button.addEventListener("click", pairs[at + 1]);
      this.actions.append(button);
    }
  }

  tell(text, bad = false) {
    this.state.textContent = text;
    this.state.classList.toggle("bad", bad);
  }

  cancel() {
    this.cancelled = true;
    this.queue.drop(this);
    if (!this.work) this.ended("cancelled");
  }

  async run() {
    const { view } = this.queue;
    this.tell("sending");
    view.begin(this.file);
    let began = 0;
    this.work = transcribe(this.file, {
      sent: (share) => {
        this.progress.value = 0;
        this.tell(share < 1 ? `sending, ${Math.round(100 * share)} %` : "sent; being read");
        began = performance.now();
      },
      progress: ({ heard_s, duration_s }) => this.under_way(heard_s, duration_s, (performance.now() - began) / 1000),
      segment: (segment) => view.segment(this.file, segment),
    });
    try {
      const json = await this.work.done;
      this.finished(json);
    } catch (error) {
      view.clear(this.file);
      if (error.name === "AbortError") this.ended("cancelled");
      else this.failed(error);
    }
    this.work = null;
  }

  under_way(heard, duration, took) {
    const speed = heard / Math.max(took, 0.001);
    const fast = took > 0.5 ? `, ${speed < 10 ? speed.toFixed(1) : Math.round(speed)}× real time` : "";
    if (duration) {
      this.progress.value = heard / duration;
      const left = took > 1 ? `, ${clock((duration - heard) / speed)} left` : "";
      this.tell(`${clock(heard)} of ${clock(duration)}${fast}${left}`);
    } else {
      this.progress.removeAttribute("value");
      this.tell(`${clock(heard)}${fast}`);
    }
  }

  finished(json) {
    const speed = json.processing_time ? `, ${Math.round(json.duration / json.processing_time)}× real time` : "";
    this.ended(`${clock(json.duration)}${speed}`);
    const show = () => this.queue.view.show(this.file, json);
    this.offer("Open", show, "Remove", () => this.remove());
    this.queue.view.finished(this.file, json);
    this.queue.ask();
    say(`${this.file.name} is done`);
  }

  failed(error) {
    this.ended(error.message, true);
    const again = () => {
      this.remove();
      this.queue.add([this.file]);
    };
    this.offer("Try again", again, "Remove", () => this.remove());
    say(`${this.file.name} failed: ${error.message}`);
    if (error.status === 401) this.queue.ask();
  }

  ended(text, bad = false) {
    this.tell(text, bad);
    this.progress.hidden = true;
    this.offer("Remove", () => this.remove());
  }

  remove() {
    this.row.remove();
    element("queue-part").hidden = !element("queue").children.length;
  }
}
