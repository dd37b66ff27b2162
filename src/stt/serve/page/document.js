// A transcript as the page holds it, and what editing does to it. Nothing here knows the page.
//
// document: {source, segments, facts, json}; segment: {start, end, text, words, speaker};
// word: {text, start, end, confidence, edited}. Seconds; confidence 0 to 1, null where not told.

export const UNSURE = 0.5;

/** The document of what `-f json` writes. */
export function fromJson(source, json) {
  return { source, json, segments: json.segments.map(fromSegment) };
}

/** A segment as the server's JSON or its events have it. */
export function fromSegment(segment) {
  const words = (segment.words ?? []).map((word) => ({
    text: word.text ?? word.word,
    start: word.start,
    end: word.end,
    confidence: word.confidence ?? word.probability ?? null,
    edited: false,
  }));
  const speaker = segment.speaker ?? segment.channel ?? "";
  return { start: segment.start, end: segment.end, text: segment.text, words, speaker, edited: false };
}

/** Words of a text; they have no white space in them. */
export function split(text) {
  return text.split(/\s+/u).filter(Boolean);
}

/**
 * The words of an edited text with times: what stands unchanged keeps its own, what was changed has
 * the span of what it replaces, shared out by length, and what was added shares that of its neighbour.
 */
export function retimed(words, text) {
  const texts = split(text);
  if (!words.length) return [];
  const made = [];
  let [was, now] = [0, 0];
  for (const [kept, place] of [...common(words.map((word) => word.text), texts), [words.length, texts.length]]) {
    made.push(...replaced(words.slice(was, kept), texts.slice(now, place), made, words[kept]));
    if (kept < words.length) made.push(words[kept]);
    [was, now] = [kept + 1, place + 1];
  }
  return made;
}

/** Words in the place of others; `before` are those made so far, `after` is the one that follows. */
function replaced(old, texts, before, after) {
  if (!texts.length) return [];
  if (old.length) return shared(old[0].start, old.at(-1).end, texts);
  const neighbour = before.pop();
  if (neighbour) {
    const [kept, ...added] = shared(neighbour.start, neighbour.end, [neighbour.text, ...texts]);
    before.push({ ...neighbour, start: kept.start, end: kept.end });
    return added;
  }
  const made = shared(after.start, after.end, [...texts, after.text]);
  [after.start, after.end] = [made.at(-1).start, made.at(-1).end];
  return made.slice(0, -1);
}

/** A span shared out among texts by their lengths. */
function shared(start, end, texts) {
  const total = texts.reduce((sum, text) => sum + text.length, 0);
  let at = start;
  return texts.map((text, index) => {
    const begin = at;
    at = index + 1 === texts.length ? end : begin + ((end - start) * text.length) / total;
    return { text, start: begin, end: at, confidence: null, edited: true };
  });
}

/** Pairs of places at which two lists have the same, as many as can be (longest common subsequence). */
export function common(one, other) {
  let first = 0;
  while (first < one.length && first < other.length && one[first] === other[first]) first += 1;
  let [a, b] = [one.length, other.length];
  while (a > first && b > first && one[a - 1] === other[b - 1]) [a, b] = [a - 1, b - 1];
  const head = Array.from({ length: first }, (_, index) => [index, index]);
  const tail = one.slice(a).map((_, index) => [a + index, b + index]);
  const middle = longest(one.slice(first, a), other.slice(first, b));
  return [...head, ...middle.map(([i, j]) => [i + first, j + first]), ...tail];
}

function longest(one, other) {
  const width = other.length + 1;
  const lengths = new Uint32Array((one.length + 1) * width);
  for (let i = one.length - 1; i >= 0; i -= 1) {
    for (let j = other.length - 1; j >= 0; j -= 1) {
      lengths[i * width + j] =
        one[i] === other[j]
          ? lengths[(i + 1) * width + j + 1] + 1
          : Math.max(lengths[(i + 1) * width + j], lengths[i * width + j + 1]);
    }
  }
  const pairs = [];
  for (let i = 0, j = 0; i < one.length && j < other.length; ) {
    if (one[i] === other[j]) {
      pairs.push([i, j]);
      [i, j] = [i + 1, j + 1];
    } else if (lengths[(i + 1) * width + j] >= lengths[i * width + j + 1]) i += 1;
    else j += 1;
  }
  return pairs;
}

/** The segment with another text, or the same where nothing of it changed. */
export function edited(segment, text) {
  const texts = split(text);
  if (texts.join(" ") === split(segment.text).join(" ")) return segment;
  const words = retimed(segment.words.map((word) => ({ ...word })), text);
  return { ...segment, text: texts.join(" "), words, edited: true };
}

/** All of it in which a speaker has another name. */
export function renamed(segments, speaker, name) {
  return segments.map((one) => (one.speaker === speaker ? { ...one, speaker: name } : one));
}

/** Names of those who speak, in the order in which they begin. */
export function speakers(segments) {
  return [...new Set(segments.map((one) => one.speaker).filter(Boolean))];
}

/** Which of rising spans a moment lies in, or the last that began before; -1 before the first. */
export function at(spans, seconds) {
  let [low, high] = [0, spans.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (spans[middle].start <= seconds) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}
