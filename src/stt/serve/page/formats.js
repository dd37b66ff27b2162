// What can be downloaded of a transcript as it stands, edited or not.

import { split } from "./document.js";

const LINE = 42;
const LINES = 2;
const LONGEST_S = 7;

export const TYPES = { txt: "text/plain", srt: "application/x-subrip", vtt: "text/vtt", json: "application/json" };

/** The document in a format: txt, srt, vtt or json. */
export function written(document, form) {
  const { segments } = document;
  if (form === "txt") return paragraphs(segments);
  if (form === "json") return `${JSON.stringify(asJson(document), null, 2)}\n`;
  const made = cues(segments);
  if (form === "srt") {
    const blocks = made.map((cue, index) => `${index + 1}\n${moment(cue.start, ",")} --> ${moment(cue.end, ",")}\n${cue.lines.join("\n").replaceAll("-->", "->")}\n`);
    return blocks.join("\n");
  }
  const blocks = made.map((cue) => `${moment(cue.start, ".")} --> ${moment(cue.end, ".")}\n${voice(cue.speaker)}${cue.lines.map(escaped).join("\n")}\n`);
  return ["WEBVTT\n", ...blocks].join("\n");
}

/** 00:01:02.345 */
export function moment(seconds, point) {
  const milliseconds = Math.max(0, Math.round(seconds * 1000));
  const two = (value) => String(Math.floor(value)).padStart(2, "0");
  const rest = String(milliseconds % 1000).padStart(3, "0");
  const whole = Math.floor(milliseconds / 1000);
  return `${two(whole / 3600)}:${two((whole / 60) % 60)}:${two(whole % 60)}${point}${rest}`;
}

/** 1:02, or 1:00:02 from an hour on. */
export function clock(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const two = (value) => String(value).padStart(2, "0");
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return `${minutes}:${two(whole % 60)}`;
  return `${Math.floor(minutes / 60)}:${two(minutes % 60)}:${two(whole % 60)}`;
}

function escaped(line) {
  return line.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

function voice(speaker) {
  return speaker ? `<v ${speaker.replaceAll(/[<>&\n]/gu, " ")}>` : "";
}

/** A paragraph ends at a pause behind a sentence, or where somebody else speaks. */
function paragraphs(segments) {
  let [text, before] = ["", null];
  for (const segment of segments.filter((one) => one.text)) {
    const other = before && segment.speaker !== before.speaker;
    const breaks = before && (other || (segment.start - before.end >= 1.5 && /[.?!…]["”]?$/u.test(before.text)));
    if (before) text += breaks ? "\n\n" : " ";
    if (segment.speaker && (breaks || !before)) text += `${segment.speaker}: `;
    text += segment.text;
    before = segment;
  }
  return text ? `${text}\n` : "";
}

/** Subtitles: at most two lines of 42 characters, and 7 s. */
export function cues(segments) {
  const made = [];
  for (const segment of segments) {
    let cue = null;
    for (const word of timed(segment)) {
      const lines = cue && fitting(cue.lines, word.text);
      if (!lines || word.end - cue.start > LONGEST_S) {
        cue = { start: word.start, end: word.end, lines: [word.text], speaker: segment.speaker };
        made.push(cue);
      } else {
        Object.assign(cue, { lines, end: word.end });
      }
    }
  }
  return made.map((cue, index) => ({ ...cue, end: Math.max(cue.start + 0.001, Math.min(Math.max(cue.end, cue.start + 0.5), made[index + 1]?.start ?? Infinity)) }));
}

function fitting(lines, word) {
  const last = lines.at(-1);
  if (last.length + 1 + word.length <= LINE) return [...lines.slice(0, -1), `${last} ${word}`];
  return lines.length < LINES ? [...lines, word] : null;
}

/** Words with times; where the model told none, they share the segment's by their lengths. */
function timed(segment) {
  if (segment.words.length) return segment.words;
  const texts = split(segment.text);
  const total = texts.reduce((sum, text) => sum + text.length, 0);
  let at = segment.start;
  return texts.map((text) => {
    const start = at;
    at += ((segment.end - segment.start) * text.length) / total;
    return { text, start, end: at };
  });
}

/** As `stt transcribe -f json` writes it; a note says how much was changed by hand. */
export function asJson({ json, segments }) {
  const said = segments.map((segment, index) => {
    const known = json.segments[index];
    if (!segment.edited) return known;
    const words = segment.words.map(({ text, start, end, confidence }) => ({ start: rounded(start), end: rounded(end), text, confidence: confidence ?? 1 }));
    return { ...known, text: segment.text, words };
  });
  const changed = segments.filter((segment) => segment.edited).length;
  const text = segments.map((segment) => segment.text).filter(Boolean).join(" ");
  if (!changed || !json.coverage) return { ...json, text, segments: said };
  const note = `${changed} of ${segments.length} segments were edited by hand`;
  const coverage = { ...json.coverage, notes: [...json.coverage.notes, note] };
  return { ...json, coverage, text, segments: said };
}

function rounded(seconds) {
  return Math.round(seconds * 1000) / 1000;
}
