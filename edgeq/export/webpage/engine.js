// The model for a page: what it asks is computed in a worker. An application of one's own needs this module alone:
//   const engine = await Engine.open();
//   const { scores } = await engine.classify(samples); // Float32Array, mono, at engine.facts.frontend.sample_rate

export class Engine {
  /** Load the model of this folder. Fails with words that say why. */
  static async open() {
    const response = await fetch(new URL("./model.json", import.meta.url));
    if (!response.ok) throw new Error(`model.json: the server answers ${response.status}; serve the whole folder`);
    const engine = new Engine(await response.json());
    await engine._call("open");
    return engine;
  }

  constructor(facts) {
    this.facts = facts;
    this._waiting = new Map();
    this._calls = 0;
    this._worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
    this._worker.onmessage = ({ data }) => this._answer(data);
    this._worker.onerror = (event) => {
      const words = event.message || "worker.js, or what it imports, does not start; serve the whole folder";
      for (const { reject } of this._waiting.values()) reject(new Error(words));
      this._waiting.clear();
    };
  }

  /** What a recording is heard as: samples, mono at the model's rate. heard: told frames and windows as they come. */
  classify(samples, heard = () => {}) {
    return this._call("classify", samples, heard);
  }

  /** Begin to listen: forget what was heard before. */
  listen() {
    return this._call("listen");
  }

  /** Hear a chunk: samples at the model's rate, missing and heard as the listener takes them. */
  hear(chunk) {
    return this._call("hear", chunk);
  }

  _call(call, given, tell) {
    const id = (this._calls += 1);
    return new Promise((resolve, reject) => {
      this._waiting.set(id, { resolve, reject, tell });
      this._worker.postMessage({ id, call, given });
    });
  }

  _answer({ id, news, result, error }) {
    const waiting = this._waiting.get(id);
    if (!waiting) return;
    if (news) {
      waiting.tell(news);
      return;
    }
    this._waiting.delete(id);
    if (error === undefined) waiting.resolve(result);
    else waiting.reject(new Error(error));
  }
}
