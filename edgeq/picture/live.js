// The page of `edgeq live --web`: the picture, fed by server-sent events, connected again when it was lost.

import { Picture } from "./picture.js";

const AGAIN_SECONDS = 2;
const SILENT_SECONDS = 3; // without any sound, be it silence

const root = document.querySelector("#picture");
let picture = null;
let of = ""; // what the scores are
let heardAt = 0;
let connected = false;

function connect() {
  const stream = new EventSource("events");
  const on = (kind, act) => stream.addEventListener(kind, (event) => act(JSON.parse(event.data)));
  on("hello", (facts) => {
    picture?.close();
    picture = new Picture(root, facts);
    of = facts.smoothing > 1 ? `mean of the last ${facts.smoothing} windows` : "";
    document.title = `${facts.model} – edgeq live`;
    connected = true;
    heard();
  });
  on("sound", ({ columns, count, seconds, peakDb }) => {
    if (count) {
      picture.frames(floats(columns), count, seconds);
      heard();
    }
    picture.level(peakDb);
  });
  on("window", ({ scores, silent, known, active }) => picture.scores(scores, { silent, known, active, of }));
  on("event", (event) => picture.event(event));
  on("status", (figures) => picture.status(figures));
  on("ended", () => {
    stream.close();
    connected = false;
    setTimeout(connect, 1000 * AGAIN_SECONDS); // it may be started again
    picture?.running(false, "ended");
  });
  stream.onerror = () => {
    stream.close(); // a browser would give up where edgeq is not back at once
    if (connected) picture.running(false, "connection lost; trying again");
    connected = false;
    setTimeout(connect, 1000 * AGAIN_SECONDS);
  };
}

function heard() {
  heardAt = performance.now();
  picture.running(true);
}

function watch() {
  if (connected && performance.now() - heardAt > 1000 * SILENT_SECONDS) {
    picture.running(false, "no sound comes");
  }
}

function floats(base64) {
  const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  return new Float32Array(bytes.buffer);
}

setInterval(watch, 500);
connect();
