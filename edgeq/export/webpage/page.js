// The page: a microphone or a recording, the model, and the picture of what it hears.

import { Engine } from "./engine.js";
import { Microphone, MicrophoneError } from "./microphone.js";
import { Picture } from "./picture.js";

const MOST_BEHIND_SECONDS = 3; // sound that may wait for the model; then some is passed over, and counted
const TIMED_WINDOWS = 100;
const LOAD_SECONDS = 2;
const FLOOR_DB = -96;
const TOP = 3;

const at = (id) => document.getElementById(id);
let engine, picture;
let smoothed = ""; // what a listener's scores are
let microphone = null;
let opening = false;
let waiting = 0; // samples that the model has not answered yet
let missing = 0; // samples that were passed over
let times = []; // of the last windows, ms: [front end, network]
let latencies = []; // of the last windows, ms
let busy = []; // [when, ms] of the last windows

async function begin() {
  if (location.protocol === "file:") return; // opened.js says what to do
  at("about").textContent = "Loading the model and what runs it, 14 MB and more…";
  try {
    engine = await Engine.open();
  } catch (error) {
    say(`The model does not start here: ${error.message}`);
    at("about").textContent = "";
    return;
  }
  const { name, labels, rule, frontend, hertz, decibels, loud, about } = engine.facts;
  smoothed = rule.smoothing > 1 ? `mean of the last ${rule.smoothing} windows` : "";
  document.title = `${name} · edgeq`;
  picture = new Picture(at("picture"), {
    model: name,
    labels,
    mels: frontend.n_mels,
    framesPerSecond: frontend.sample_rate / frontend.hop_length,
    windowSeconds: frontend.window_seconds,
    hertz,
    decibels,
    loud,
    threshold: rule.on,
    source: "in this browser",
  });
  picture.running(false, "ready");
  at("about").textContent = about;
  at("controls").hidden = at("listen").disabled = at("file").disabled = false;
}

function say(words) {
  at("notice").textContent = words;
  at("notice").hidden = !words;
}

async function listen() {
  say("");
  at("recording").hidden = true;
  opening = true;
  at("listen").disabled = true;
  try {
    await engine.listen();
    waiting = missing = 0;
    times = [];
    latencies = [];
    busy = [];
    microphone = await Microphone.open(engine.facts.frontend.sample_rate, hear, lost);
    at("listen").textContent = "Stop";
    document.querySelector(".source").textContent = microphone.name;
    picture.running(true);
  } catch (error) {
    say(error instanceof MicrophoneError ? error.message : `The microphone does not start (${error.message}).`);
  } finally {
    opening = false;
    at("listen").disabled = false;
  }
}

function stop(why = "stopped") {
  microphone?.close();
  microphone = null;
  at("listen").textContent = "Listen";
  picture.level(FLOOR_DB);
  picture.running(false, why);
}

function lost(words, ended) {
  if (ended) stop("stopped");
  say(words);
}

async function hear(chunk) {
  const heardBy = microphone;
  const rate = engine.facts.frontend.sample_rate;
  picture.level(peak(chunk.samples));
  if (waiting > MOST_BEHIND_SECONDS * rate) {
    missing += chunk.missing + chunk.samples.length;
    return;
  }
  const length = chunk.samples.length;
  waiting += length;
  try {
    const given = { ...chunk, missing: chunk.missing + missing };
    missing = 0;
    const { frames, updates, seconds, dropped } = await engine.hear(given);
    if (microphone === null || (heardBy !== null && heardBy !== microphone)) return;
    show(frames, seconds);
    for (const update of updates) {
      picture.scores(update.scores, { ...update, known: update.heard !== null, of: smoothed });
      if (update.event) picture.event(update.event);
      timed(update);
      latencies.push(update.latencyMs);
      if (latencies.length > TIMED_WINDOWS) latencies.shift();
      picture.status({ latencyMs: percentile(latencies, 50), latencyP95Ms: percentile(latencies, 95) });
    }
    picture.status({ seconds, dropped, load: load() });
  } catch (error) {
    stop();
    say(error.message);
  } finally {
    waiting -= length;
  }
}

async function classify(file) {
  if (!file || !engine || opening) return;
  if (microphone) stop();
  say("");
  const place = at("recording");
  place.hidden = false;
  told(place, ["dim", `${file.name} …`]);
  at("listen").disabled = at("file").disabled = true;
  picture.running(true);
  try {
    const samples = await decoded(file);
    times = [];
    let second = 0;
    const { hop_length, sample_rate, rows } = engine.facts.frontend;
    const result = await engine.classify(samples, ({ frames, ...window }) => {
      if (frames) {
        second += ((frames.length / rows) * hop_length) / sample_rate;
        show(frames, second);
        return;
      }
      picture.scores(window.probabilities, { silent: window.gated });
      timed(window);
    });
    picture.scores(result.scores, { silent: result.silent, of: "mean of its windows" });
    picture.status({ seconds: result.seconds });
    const best = [...result.scores.keys()].sort((one, other) => result.scores[other] - result.scores[one]).slice(0, TOP);
    const words = best.map((index) => `${engine.facts.labels[index]} ${(100 * result.scores[index]).toFixed(1)}\u00a0%`);
    const note = result.silent ? "; nothing to hear in it, a guess about silence" : "";
    told(
      place,
      ["", `${file.name}, ${result.seconds.toFixed(2)} s: `],
      ["best", words[0]],
      ["dim", `${words.slice(1).map((word) => `, ${word}`).join("")}${note}`],
    );
  } catch (error) {
    place.hidden = true;
    say(`${file.name}: ${error.message}`);
  } finally {
    picture.running(false, "ready");
    at("listen").disabled = at("file").disabled = false;
    at("file").value = "";
  }
}

/** The mean of a recording's channels at the model's rate; a browser's decoder converts rates by itself. */
async function decoded(file) {
  const rate = engine.facts.frontend.sample_rate;
  let audio;
  try {
    audio = await new OfflineAudioContext(1, 1, rate).decodeAudioData(await file.arrayBuffer());
  } catch {
    throw new Error(`this browser cannot decode it at ${rate} Hz; WAV, FLAC, Ogg and MP3 mostly work`);
  }
  const samples = audio.getChannelData(0).slice();
  for (let channel = 1; channel < audio.numberOfChannels; channel += 1) {
    audio.getChannelData(channel).forEach((value, index) => (samples[index] += value));
  }
  return audio.numberOfChannels > 1 ? samples.map((value) => value / audio.numberOfChannels) : samples;
}

/** Frames on the picture: of maps that have more rows than mels, the first. */
function show(frames, seconds) {
  const { n_mels, rows } = engine.facts.frontend;
  const count = frames.length / rows;
  if (!count) return;
  let columns = frames;
  if (rows !== n_mels) {
    columns = new Float32Array(count * n_mels);
    for (let frame = 0; frame < count; frame += 1) {
      columns.set(frames.subarray(frame * rows, frame * rows + n_mels), frame * n_mels);
    }
  }
  picture.frames(columns, count, seconds);
}

function timed({ frontendMs, networkMs }) {
  times.push([frontendMs, networkMs]);
  if (times.length > TIMED_WINDOWS) times.shift();
  busy.push([performance.now(), frontendMs + networkMs]);
  // Means, since they add up, and since frames of a recording are computed for several windows at a time.
  const [frontend, network] = [0, 1].map((part) => times.reduce((sum, one) => sum + one[part], 0) / times.length);
  const whole = frontend + network;
  picture.status({ inferenceMs: whole });
  at("about").textContent =
    `A window takes ${whole.toFixed(1)} ms, mean of the last ${times.length}: front end ${frontend.toFixed(1)} ms, ` +
    `network ${network.toFixed(1)} ms. ${engine.facts.about}`;
}

/** The part of the last seconds that the model's thread was computing. */
function load() {
  const now = performance.now();
  const since = Math.max(LOAD_SECONDS, engine.facts.frontend.window_hop_seconds) * 1000;
  busy = busy.filter(([when]) => when > now - since);
  return busy.reduce((sum, [, ms]) => sum + ms, 0) / since;
}

function percentile(values, percent) {
  const sorted = [...values].sort((one, other) => one - other);
  const place = ((sorted.length - 1) * percent) / 100;
  const [below, above] = [sorted[Math.floor(place)], sorted[Math.ceil(place)]];
  return below + (above - below) * (place - Math.floor(place));
}

function peak(samples) {
  const most = samples.reduce((largest, sample) => Math.max(largest, Math.abs(sample)), 0);
  return most > 0 ? Math.max(FLOOR_DB, 20 * Math.log10(most)) : FLOOR_DB;
}

function told(place, ...parts) {
  const line = document.createElement("p");
  for (const [kind, words] of parts) {
    const part = document.createElement("span");
    part.className = kind;
    part.textContent = words;
    line.append(part);
  }
  place.replaceChildren(line);
}

at("listen").addEventListener("click", () => (microphone ? stop() : listen()));
at("file").addEventListener("change", (event) => classify(event.target.files[0]));
addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dropping");
});
addEventListener("dragleave", (event) => {
  if (event.relatedTarget === null) document.body.classList.remove("dropping");
});
addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dropping");
  classify(event.dataTransfer.files[0]);
});

begin();
