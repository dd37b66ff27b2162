// Runs in the audio thread: collects the microphone's samples and hands on a tenth of a second at a time.

class Capture extends AudioWorkletProcessor {
  constructor() {
    super();
    this.block = new Int16Array(Math.round(sampleRate / 10));
    this.filled = 0;
    this.port.onmessage = () => {
      this.hand(this.block.slice(0, this.filled)); // the rest, before it is disconnected
      this.port.postMessage(null);
      this.ended = true;
    };
  }

  process([[channel]]) {
    if (this.ended) return false;
    for (const value of channel ?? []) {
      this.block[this.filled] = Math.max(-32768, Math.min(32767, Math.round(value * 32767)));
      this.filled += 1;
      if (this.filled === this.block.length) {
        this.hand(this.block.slice());
        this.filled = 0;
      }
    }
    return true;
  }

  hand(samples) {
    this.port.postMessage(samples, [samples.buffer]);
  }
}

registerProcessor("stt-capture", Capture);
