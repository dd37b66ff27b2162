// The microphone's part of the page: captions while somebody speaks.

import { Captions } from "./captions.js";
import { download, element, say } from "./elements.js";
import { microphone, Recording, trouble } from "./microphone.js";
import { session } from "./server.js";

const SILENT_DB = -70;
const SILENT_S = 4;
const GOODBYE_MS = 20_000;
const EMPTY = "input_audio_buffer_commit_empty";

/** Wire the microphone's card; `open` shows a document with its sound, `served` tells what runs. */
export function wireLive(open, served) {
  let listening = null;
  let last = null;
  const button = element("listen");
  button.addEventListener("click", async () => {
    if (listening) {
      button.disabled = true;
      last = await listening.stop();
      listening = null;
    } else {
      button.disabled = true;
      listening = await begin((told) => listening === told && button.click());
      if (listening) last = null;
    }
    button.disabled = false;
    button.textContent = listening ? "Stop" : "Start listening";
    element("level-row").hidden = !listening;
    element("live-keep").hidden = !last?.bytes;
  });
  element("save-sound").addEventListener("click", () => download(last.wav(), "live.wav"));
  element("save-text").addEventListener("click", () => {
    download(new Blob([`${last.captions.settled}\n`], { type: "text/plain" }), "live.txt");
  });
  element("open-live").addEventListener("click", () => open(asJson(last, served()), last.wav()));
}

function asJson({ captions, seconds, date }, served) {
  return {
    schema_version: 1,
    stt_version: served.version ?? "unknown",
    source: "microphone",
    date,
    duration: seconds,
    processing_time: null,
    language: served.language ?? null,
    model: served.model,
    precision: served.precision,
    provider: served.provider,
    reason: served.reason,
    coverage: null,
    text: captions.settled,
    segments: captions.segments,
  };
}

/** Begin to listen; returns what can be stopped, or null where there is no microphone. */
async function begin(ended) {
  message("");
  const captions = new Captions();
  const begun = { captions };
  let recording = null;
  let socket = null;
  const early = [];
  const take = (samples) => {
    if (!socket) early.push(samples);
    else {
      recording.push(samples);
      socket.append(samples);
    }
  };
  let source;
  try {
    source = await microphone(take);
  } catch (error) {
    message(trouble(error), true);
    return null;
  }
  recording = new Recording(source.rate);
  const silence = new Silence();
  let settle = () => {};
  const heard = (event) => {
    if (event.type === "stt.level") level(event, silence);
    else if (event.type === "stt.problem" || event.type === "error") problem(event);
    else if (captions.take(event)) show(captions);
    settle(event);
  };
  const closed = new Promise((resolve) => {
    socket = session(source.rate, heard, (code, reason) => {
      if (code !== 1000) message(reason || "The server ended the session.", true);
      resolve();
      ended(begun);
    });
  });
  early.forEach(take);
  source.track.addEventListener("ended", () => {
    message("The microphone is gone.", true);
    ended(begun);
  });
  element("live-part").hidden = false;
  show(captions);
  say("Listening");
  begun.stop = async () => {
    await source.stop();
    const answered = new Promise((resolve) => {
      let asked = false; // whether the last commit was answered
      settle = (event) => {
        asked ||= event.type === "input_audio_buffer.committed" || event.error?.code === EMPTY;
        if (asked && captions.pending <= 0) resolve();
      };
    });
    socket.commit();
    await Promise.race([answered, closed, new Promise((resolve) => setTimeout(resolve, GOODBYE_MS))]);
    socket.close();
    show(captions);
    say("Stopped");
    const { bytes, rate } = recording;
    return { captions, bytes, seconds: bytes / 2 / rate, wav: () => recording.wav(), date: now() };
  };
  return begun;
}

/** ISO 8601 with the offset from UTC, as the server writes it. */
function now() {
  const date = new Date();
  const offset = -date.getTimezoneOffset();
  const two = (value) => String(Math.floor(Math.abs(value))).padStart(2, "0");
  const local = new Date(date.getTime() + offset * 60_000).toISOString().slice(0, 19);
  return `${local}${offset < 0 ? "-" : "+"}${two(offset / 60)}:${two(offset % 60)}`;
}

/** Whether nothing has been heard for long. */
class Silence {
  constructor() {
    this.since = 0;
  }

  lasts({ at_s, rms_db }) {
    if (rms_db > SILENT_DB) this.since = at_s;
    return at_s - this.since >= SILENT_S;
  }
}

function level(event, silence) {
  element("level").value = Math.max(0, 60 + event.rms_db);
  if (element("listen-message").classList.contains("bad")) return;
  if (silence.lasts(event)) message("I hear nothing at all: is the microphone muted, or another one chosen?");
  else if (event.peak_db > -0.5) message("It is too loud: the sound is cut off.");
  else if (event.lag_s > 3) message(`Recognition is ${Math.round(event.lag_s)} s behind.`);
  else message("");
}

function problem(event) {
  if (event.error?.code !== EMPTY) message(event.message ?? event.error.message, event.type === "error");
}

function message(text, bad = false) {
  const place = element("listen-message");
  if (place.textContent !== text) place.textContent = text;
  place.hidden = !text;
  place.classList.toggle("bad", bad);
}

function show(captions) {
  element("settled").textContent = captions.settled;
  element("draft").textContent = captions.draft;
  const place = element("captions");
  place.scrollTop = place.scrollHeight;
}
