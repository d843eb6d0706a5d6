// The exported model in onnxruntime-web: samples to log-mel frames, a window of frames to probabilities.

import * as ort from "./onnxruntime-web/ort.wasm.min.mjs";
import { ClipScores } from "./decision.js";
import { WindowStream } from "./stream.js";

const WASM = "onnxruntime-web/ort-wasm-simd-threaded.wasm";

ort.env.wasm.numThreads = 1; // more need headers that a plain file server does not send
ort.env.wasm.wasmPaths = new URL("./onnxruntime-web/", import.meta.url).href;
ort.env.logLevel = "error";

export class Model {
  /** Load what model.json in the folder of this page names. */
  static async open() {
    const facts = await (await fetched("model.json")).json();
    const [wasm, ...contents] = await Promise.all(
      [WASM, "logmel.onnx", "features.onnx", "network.onnx"].map(async (name) => (await fetched(name)).arrayBuffer()),
    );
    ort.env.wasm.wasmBinary = wasm; // what onnxruntime-web says of a file that is missing helps nobody
    const sessions = [];
    for (const content of contents) sessions.push(await ort.InferenceSession.create(new Uint8Array(content)));
    const model = new Model(facts, ...sessions);
    await model.classify(new Float32Array(facts.frontend.window_samples)); // the first run compiles and reserves
    return model;
  }

  constructor(facts, logmel, features, network) {
    this.labels = facts.labels;
    this.frontend = facts.frontend;
    this.rule = facts.rule;
    this._sessions = { logmel, features, network };
    this._logmelMs = 0; // since the last window
  }

  /** Log-mel frames that fit whole into the samples, one after the other. */
  async logmel(samples) {
    const begun = performance.now();
    const { frames } = await this._sessions.logmel.run({ samples: new ort.Tensor("float32", samples, [samples.length]) });
    this._logmelMs += performance.now() - begun;
    return frames.data;
  }

  /** Probabilities of a window of frames, whether it is too quiet to be judged, and the time it took: the front end's
   *  since the last window, and the network's. */
  async predict(window) {
    const begun = performance.now();
    const shape = [1, this.frontend.window_frames, this.frontend.rows];
    const { features, gated } = await this._sessions.features.run({ windows: new ort.Tensor("float32", window, shape) });
    const heard = performance.now();
    const { output } = await this._sessions.network.run({ input: features });
    const frontendMs = this._logmelMs + heard - begun;
    this._logmelMs = 0;
    return {
      probabilities: output.data,
      gated: Boolean(gated.data[0]),
      frontendMs,
      networkMs: performance.now() - heard,
    };
  }

  /** The frames and windows of a stretch of sound. */
  stream() {
    this._logmelMs = 0;
    return new WindowStream(this.frontend, (samples) => this.logmel(samples));
  }

  /**
   * What a whole recording is heard as, as `edgeq classify`: samples, mono at the model's rate. heard: called for every
   * window with its probabilities and times, and for frames as they come.
   * Gives seconds, scores in the labels' order, silent (every window is below the gate) and the number of windows.
   */
  async classify(samples, heard = () => {}) {
    const stream = this.stream();
    const clip = new ClipScores(this.labels.length);
    const { sample_rate, hop_length } = this.frontend;
    const step = Math.ceil((2 * sample_rate) / hop_length) * hop_length;
    let windows = 0;
    for (let first = 0; first < samples.length + step; first += step) {
      const last = first >= samples.length;
      const cut = last ? await stream.finish() : await stream.push(samples.subarray(first, first + step));
      heard({ frames: stream.came });
      for (const window of cut) {
        const result = await this.predict(window);
        clip.add(result.probabilities, result.gated);
        windows += 1;
        heard(result);
      }
    }
    const scores = clip.scores();
    if (!scores.every(Number.isFinite)) {
      throw new Error("the model's scores hold NaN or infinity; export the model again");
    }
    return { seconds: samples.length / sample_rate, scores, silent: clip.silent, windows };
  }
}

async function fetched(name) {
  const response = await fetch(new URL(`./${name}`, import.meta.url));
  if (!response.ok) throw new Error(`${name}: the server answers ${response.status}; serve the whole folder`);
  return response;
}
