// The front end piece by piece, as edgeq/audio/stream.py: whatever the size of the pieces, the numbers are those of the
// whole recording. Frames lie one after the other, `rows` values each; what computes them is the model's logmel.onnx.

const STEP_FRAMES = 128; // computed at a time, so that memory is bounded

/** Log-mel frames of a waveform that comes in pieces. logmel: async, samples to the frames that fit whole into them. */
export class LogMelStream {
  constructor(frontend, logmel) {
    this._frontend = frontend;
    this._logmel = logmel;
    this._half = frontend.centre ? frontend.n_fft / 2 : 0;
    this._held = new Float32Array(0);
    this._next = 0; // where in _held the next frame starts
    this._started = false;
  }

  /** Take the next samples; the frames that they complete. */
  async push(samples) {
    if (!samples.every(Number.isFinite)) throw new Error("NaN or infinite samples; repair the recording");
    const step = STEP_FRAMES * this._frontend.hop_length;
    const pieces = [];
    for (let first = 0; first < samples.length; first += step) {
      pieces.push(await this._advance(samples.subarray(first, first + step)));
    }
    return joined(pieces);
  }

  /** End the stream: the frames that look past its end, on reflected samples. */
  async finish() {
    if (!this._started) {
      const { least_samples: least, sample_rate: rate } = this._frontend;
      throw new Error(`${this._held.length} samples: expected at least ${least} at ${rate} Hz; give a longer recording`);
    }
    const last = this._held.length - 2;
    return this._advance(Float32Array.from({ length: this._half }, (_, back) => this._held[last - back]));
  }

  async _advance(samples) {
    const { n_fft, hop_length, least_samples } = this._frontend;
    this._held = joined([this._held, samples]);
    if (!this._started) {
      if (this._held.length < least_samples) return new Float32Array(0);
      const before = Float32Array.from({ length: this._half }, (_, place) => this._held[this._half - place]);
      this._held = joined([before, this._held]);
      this._started = true;
    }
    const count = 1 + Math.floor((this._held.length - this._next - n_fft) / hop_length);
    if (count < 1) return new Float32Array(0);
    const frames = await this._logmel(this._held.slice(this._next, this._next + (count - 1) * hop_length + n_fft));
    this._next += count * hop_length;
    // The end is reflected about its last sample, so that one and half a window before it stay.
    const unused = Math.max(0, Math.min(this._next, this._held.length - this._half - 1));
    this._held = this._held.slice(unused);
    this._next -= unused;
    return frames;
  }
}

/** Network windows of a waveform that comes in pieces; `came` are the frames that the last piece completed. */
export class WindowStream {
  constructor(frontend, logmel) {
    this._frontend = frontend;
    this._logmel = new LogMelStream(frontend, logmel);
    this._head = []; // null where the recording is longer than a window
    this._headSamples = 0;
    this._frames = new Float32Array(0);
    this._skip = 0; // frames to pass over before the next window, where windows leave gaps
    this.came = new Float32Array(0);
  }

  /** Take the next samples; the windows that they complete, window_frames * rows values each. */
  async push(samples) {
    this.came = await this._logmel.push(samples);
    if (this._head) {
      this._head.push(samples.slice());
      this._headSamples += samples.length;
      if (this._headSamples >= this._frontend.window_samples) this._head = null;
    }
    return this._cut(this.came);
  }

  /** End the stream, padding it to one window where it was shorter; the last windows. */
  async finish() {
    const last = [];
    if (this._head) {
      const padded = pad(joined(this._head), this._frontend);
      last.push(await this._logmel.push(padded.subarray(this._headSamples)));
      this._head = null;
    }
    this.came = joined([...last, await this._logmel.finish()]);
    return this._cut(this.came);
  }

  _cut(frames) {
    const { rows, window_frames, window_hop_frames } = this._frontend;
    const held = joined([this._frames, frames]);
    const passed = Math.min(this._skip, held.length / rows);
    this._skip -= passed;
    const windows = [];
    let first = passed;
    for (; first + window_frames <= held.length / rows; first += window_hop_frames) {
      windows.push(held.slice(first * rows, (first + window_frames) * rows));
    }
    this._skip += Math.max(0, first - held.length / rows);
    this._frames = held.slice(first * rows);
    return windows;
  }
}

function pad(samples, frontend) {
  const { win_length, sample_rate, window_samples } = frontend;
  const count = samples.length;
  if (count < win_length) {
    throw new Error(`${count} samples: expected at least ${win_length} at ${sample_rate} Hz; give a longer recording`);
  }
  const padded = new Float32Array(Math.max(count, window_samples));
  padded.set(samples);
  if (frontend.pad === "repeat") for (let at = count; at < padded.length; at += 1) padded[at] = samples[at % count];
  return padded;
}

/** Arrays of float32, one behind the other. */
export function joined(arrays) {
  const whole = new Float32Array(arrays.reduce((length, array) => length + array.length, 0));
  let at = 0;
  for (const array of arrays) {
    whole.set(array, at);
    at += array.length;
  }
  return whole;
}
