// What the page asks of its server: OpenAI's interface and the additions that docs/serve.md lists.

const KEY = "stt-key";

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export function setKey(key) {
  sessionStorage.setItem(KEY, key);
}

function key() {
  return sessionStorage.getItem(KEY) ?? "";
}

function address(path) {
  return new URL(path, document.baseURI);
}

/** What the server is and runs; with a key that it does not know it tells little. */
export async function health() {
  const headers = key() ? { authorization: `Bearer ${key()}` } : {};
  const answer = await fetch(address("health"), { headers });
  return answer.json();
}

/**
 * Send a recording and take what is found of it while it is recognised.
 * `on` has sent(share), progress({heard_s, duration_s}), segment(segment). Returns {done, cancel}.
 */
export function transcribe(file, on) {
  const request = new XMLHttpRequest(); // fetch tells nothing of an upload
  const form = new FormData();
  form.append("model", "stt");
  form.append("stream", "true");
  for (const name of ["progress", "segments", "transcript"]) form.append("include[]", `stt.${name}`);
  form.append("file", file, file.name);
  let transcript = null;
  const take = reader((event) => {
    if (event.type === "stt.progress") on.progress(event);
    else if (event.type === "stt.segment") on.segment(event.segment);
    else if (event.type === "stt.transcript") ({ transcript } = event);
    else if (event.type === "error") throw new Refused(500, event.error.message);
  });
  const done = new Promise((resolve, reject) => {
    const took = () => {
      try {
        take(request.responseText);
      } catch (error) {
        reject(error);
        request.abort();
      }
    };
    request.upload.onprogress = ({ loaded, total }) => on.sent(loaded / total);
    request.onprogress = () => request.status === 200 && took();
    request.onload = () => {
      if (request.status !== 200) reject(refusal(request));
      else {
        took();
        if (transcript) resolve(transcript);
        else reject(new Refused(0, "the server ended before the transcript did; try again"));
      }
    };
    request.onerror = () => reject(new Refused(0, "the server cannot be reached, or left in the middle"));
    request.onabort = () => reject(new DOMException("cancelled", "AbortError"));
  });
  request.open("POST", address("v1/audio/transcriptions"));
  if (key()) request.setRequestHeader("authorization", `Bearer ${key()}`);
  request.send(form);
  return { done, cancel: () => request.abort() };
}

function refusal(request) {
  let message = `the server answered ${request.status}`;
  try {
    ({ message } = JSON.parse(request.responseText).error);
  } catch (error) {
    if (!(error instanceof SyntaxError || error instanceof TypeError)) throw error;
  }
  const after = Number(request.getResponseHeader("retry-after"));
  return new Refused(request.status, after ? `${message} (in ${after} s)` : message);
}

/** Take server-sent events out of a text that grows. */
function reader(take) {
  let done = 0;
  return (text) => {
    for (let end = text.indexOf("\n\n", done); end >= 0; end = text.indexOf("\n\n", done)) {
      const lines = text.slice(done, end).split("\n");
      done = end + 2;
      const data = lines.filter((line) => line.startsWith("data:")).map((line) => line.slice(5));
      if (data.length) take(JSON.parse(data.join("\n")));
    }
  };
}

/** A live session for PCM at a rate; `take` gets each event, `left` is called when it ends. */
export function session(rate, take, left) {
  const url = address("v1/realtime?intent=transcription");
  url.protocol = url.protocol.replace("http", "ws");
  const protocols = ["realtime", ...(key() ? [`openai-insecure-api-key.${key()}`] : [])];
  const socket = new WebSocket(url, protocols);
  const send = (event) => socket.readyState === WebSocket.OPEN && socket.send(JSON.stringify(event));
  const waiting = [];
  socket.onopen = () => {
    const input = { format: { type: "audio/pcm", rate }, turn_detection: { type: "server_vad" } };
    const include = ["stt.draft", "stt.level", "stt.words"];
    send({ type: "session.update", session: { type: "transcription", audio: { input }, include } });
    for (const samples of waiting.splice(0)) append(samples);
  };
  const append = (samples) => {
    if (socket.readyState === WebSocket.CONNECTING) waiting.push(samples);
    else send({ type: "input_audio_buffer.append", audio: base64(new Uint8Array(samples.buffer)) });
  };
  socket.onmessage = ({ data }) => take(JSON.parse(data));
  socket.onclose = ({ code, reason }) => left(code, reason);
  return { append, commit: () => send({ type: "input_audio_buffer.commit" }), close: () => socket.close(1000) };
}

function base64(bytes) {
  let text = "";
  for (let at = 0; at < bytes.length; at += 8192) text += String.fromCharCode(...bytes.subarray(at, at + 8192));
  return btoa(text);
}
