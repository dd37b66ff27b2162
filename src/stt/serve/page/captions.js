// What a live session has said so far, from its events. Nothing here knows the page.

export class Captions {
  constructor() {
    this.items = new Map(); // id -> {said, draft, done, segment}, in order
    this.pending = 0; // items that are committed and not completed
    this.committed = 0; // how many were
  }

  /** Take an event; returns whether the text is another now. */
  take(event) {
    const one = event.item_id ? this.item(event.item_id) : null;
    switch (event.type) {
      case "conversation.item.input_audio_transcription.delta":
        one.said += event.delta;
        return true;
      case "stt.draft":
        [one.said, one.draft] = [event.committed, event.draft];
        return true;
      case "input_audio_buffer.committed":
        [this.pending, this.committed] = [this.pending + 1, this.committed + 1];
        return false;
      case "stt.words":
        one.segment = { start: event.start_s, end: event.end_s, words: event.words };
        return false;
      case "conversation.item.input_audio_transcription.completed":
        Object.assign(one, { said: event.transcript, draft: "", done: true });
        this.pending -= 1;
        return true;
      case "conversation.item.input_audio_transcription.failed":
        Object.assign(one, { draft: "", done: true });
        this.pending -= 1;
        return true;
      default:
        return false;
    }
  }

  item(id) {
    if (!this.items.has(id)) this.items.set(id, { said: "", draft: "", done: false, segment: null });
    return this.items.get(id);
  }

  /** Words that stand. */
  get settled() {
    return joined([...this.items.values()].map((one) => one.said));
  }

  /** Words that may still change. */
  get draft() {
    return joined([...this.items.values()].map((one) => one.draft));
  }

  /** Segments as the server's JSON has them. */
  get segments() {
    const done = [...this.items.values()].filter((one) => one.segment && one.said.trim());
    return done.map(({ said, segment }) => {
      const words = segment.words.map(({ word, start, end, probability }) => ({ start, end, text: word, confidence: probability ?? 0 }));
      const sure = words.length ? words.reduce((sum, word) => sum + word.confidence, 0) / words.length : 0;
      return { start: segment.start, end: segment.end, text: said.trim(), confidence: sure, words };
    });
  }
}

function joined(texts) {
  return texts.map((text) => text.trim()).filter(Boolean).join(" ");
}
