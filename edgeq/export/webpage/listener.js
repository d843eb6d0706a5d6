// A model that listens, as edgeq/live/listener.py: chunks of sound to what each window is heard as.

import { Detector } from "./decision.js";

export class Listener {
  constructor(model) {
    this._model = model;
    this._detector = new Detector(model.rule, model.labels);
    this._seconds = 0; // of sound before the stretch
    this._taken = this._windows = 0; // of the stretch
    this._stream = null;
    this.dropped = 0;
  }

  /** Seconds of sound so far, with what was lost. */
  get seconds() {
    return this._seconds + this._taken / this._model.frontend.sample_rate;
  }

  /**
   * Take in a chunk: samples at the model's rate, missing (how many were lost before them) and heard, when the last
   * one was captured, in ms of Date.now(). Gives the frames that it completed and an update a window.
   */
  async push({ samples, missing, heard }) {
    if (missing || !this._stream) {
      this._seconds = this.seconds + missing / this._model.frontend.sample_rate;
      this.dropped += missing;
      this._taken = this._windows = 0;
      this._stream = this._model.stream();
      this._detector.reset();
    }
    this._taken += samples.length;
    const windows = await this._stream.push(samples);
    const updates = [];
    for (const window of windows) updates.push(this._update(await this._model.predict(window), heard));
    return { frames: this._stream.came, updates, seconds: this.seconds, dropped: this.dropped };
  }

  _update({ probabilities, gated, frontendMs, networkMs }, heard) {
    const { end, complete } = this._nextWindow();
    const captured = heard - 1000 * Math.max(0, this._taken / this._model.frontend.sample_rate - complete);
    const seconds = this._seconds + end;
    const event = this._detector.update(seconds, probabilities, gated);
    return {
      seconds,
      probabilities,
      scores: this._detector.scores,
      silent: gated,
      event,
      active: this._detector.active,
      heard: this._detector.heard,
      latencyMs: Date.now() - captured,
      frontendMs,
      networkMs,
    };
  }

  /** Of the next window, in seconds of the stretch: where it ends, and the last sample that it needs. */
  _nextWindow() {
    const { sample_rate, hop_length, n_fft, centre, window_frames, window_hop_frames, window_seconds } = this._model.frontend;
    const start = this._windows * window_hop_frames * hop_length;
    const needed = start + (window_frames - 1) * hop_length + (centre ? n_fft / 2 : n_fft);
    this._windows += 1;
    return { end: start / sample_rate + window_seconds, complete: needed / sample_rate };
  }
}
