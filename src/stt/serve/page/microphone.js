// The microphone's samples, and the recording of them.

const WANTED_HZ = 16_000;
const SOUND = { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false };

/** Why there is no sound, for people. */
export function trouble(error) {
  if (!window.isSecureContext || !navigator.mediaDevices) {
    return "A browser lends the microphone to pages on this machine or over https only: run the server with --tls-cert and --tls-key.";
  }
  const known = {
    NotAllowedError: "The browser may not listen. Allow the microphone for this page, in the address bar, and start again.",
    NotFoundError: "There is no microphone. Connect one and start again.",
    NotReadableError: "Another program has the microphone, or the system does not give it. Close that program and start again.",
  };
  return known[error.name] ?? `The microphone cannot be opened: ${error.message}`;
}

/** Open the microphone; `take` gets Int16Array blocks. Returns {rate, stop}. */
export async function microphone(take) {
  const stream = await navigator.mediaDevices.getUserMedia({ audio: SOUND });
  const context = await connected(stream);
  const node = new AudioWorkletNode(context.graph, "stt-capture", { numberOfOutputs: 0 });
  context.source.connect(node);
  const rest = new Promise((resolve) => {
    node.port.onmessage = ({ data }) => (data ? take(data) : resolve());
  });
  const stop = async () => {
    node.port.postMessage("end");
    await Promise.race([rest, new Promise((resolve) => setTimeout(resolve, 500))]);
    for (const track of stream.getTracks()) track.stop();
    await context.graph.close();
  };
  const [track] = stream.getAudioTracks();
  return { rate: context.graph.sampleRate, stop, track };
}

/** A graph at 16 kHz, or at the microphone's own rate where the browser does not resample. */
async function connected(stream) {
  const worklet = new URL("capture.js", import.meta.url);
  for (const options of [{ sampleRate: WANTED_HZ }, {}]) {
    const graph = new AudioContext(options);
    try {
      const source = graph.createMediaStreamSource(stream);
      await graph.audioWorklet.addModule(worklet);
      return { graph, source };
    } catch (error) {
      await graph.close();
      if (!options.sampleRate) throw error;
    }
  }
  throw new Error("no audio graph");
}

/** A recording that grows, as a WAV file. */
export class Recording {
  constructor(rate) {
    this.rate = rate;
    this.parts = [];
    this.bytes = 0;
  }

  push(samples) {
    this.parts.push(samples.slice());
    this.bytes += samples.byteLength;
    if (this.parts.length >= 600) this.parts = [new Blob(this.parts)]; // a browser keeps those on disk
  }

  wav() {
    const head = new DataView(new ArrayBuffer(44));
    const text = (at, value) => [...value].forEach((sign, index) => head.setUint8(at + index, sign.charCodeAt(0)));
    text(0, "RIFF");
    head.setUint32(4, 36 + this.bytes, true);
    text(8, "WAVEfmt ");
    head.setUint32(16, 16, true);
    head.setUint16(20, 1, true);
    head.setUint16(22, 1, true);
    head.setUint32(24, this.rate, true);
    head.setUint32(28, 2 * this.rate, true);
    head.setUint16(32, 2, true);
    head.setUint16(34, 16, true);
    text(36, "data");
    head.setUint32(40, this.bytes, true);
    return new Blob([head, ...this.parts], { type: "audio/wav" });
  }
}
