// The model in a thread of its own: the page stays quick while a window is computed. Calls are answered in turn.

import { Listener } from "./listener.js";
import { Model } from "./model.js";

let model = null;
let listener = null;
let turn = Promise.resolve();

const calls = {
  async open() {
    model = await Model.open();
  },
  async classify(samples, tell) {
    return model.classify(samples, tell);
  },
  async listen() {
    listener = new Listener(model);
  },
  async hear(chunk) {
    return listener.push(chunk);
  },
};

self.onmessage = ({ data: { id, call, given } }) => {
  turn = turn.then(async () => {
    try {
      const result = await calls[call](given, (news) => self.postMessage({ id, news }));
      self.postMessage({ id, result });
    } catch (error) {
      self.postMessage({ id, error: error.message ?? String(error) });
    }
  });
};
