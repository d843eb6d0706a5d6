// Sound as the browser's audio thread gives it, 128 samples at a time, in chunks of the length that is asked for.

const SETTLED_SECONDS = 0.2; // until then the clock of a new context may jump

class Capture extends AudioWorkletProcessor {
  constructor({ processorOptions: { length } }) {
    super();
    this._chunk = new Float32Array(length);
    this._count = 0;
    this._missing = 0;
    this._begun = null; // seconds
    this._next = null; // number of the sample that is due
  }

  process([channels]) {
    if (channels.length === 0) return true;
    this._begun ??= currentTime;
    if (currentTime - this._begun < SETTLED_SECONDS) return true;
    if (this._next !== null && currentFrame > this._next) this._lost(currentFrame - this._next);
    const length = channels[0].length;
    for (let at = 0; at < length; at += 1) {
      let sum = 0;
      for (const channel of channels) sum += channel[at];
      const sample = sum / channels.length;
      this._chunk[this._count] = Number.isFinite(sample) ? sample : 0;
      this._count += 1;
      if (this._count === this._chunk.length) this._hand();
    }
    this._next = currentFrame + length;
    return true;
  }

  _lost(samples) {
    if (this._count) this._hand();
    this._missing += samples;
  }

  _hand() {
    this.port.postMessage({ samples: this._chunk.slice(0, this._count), missing: this._missing, heard: Date.now() });
    this._count = this._missing = 0;
  }
}

registerProcessor("capture", Capture);
