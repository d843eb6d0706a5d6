// The live picture: spectrogram, level, classes, events and what it costs, drawn from numbers that somebody gives.
// The page of `edgeq live --web` and the one of `edgeq export --web` show the same. No dependencies, nothing fetched.

import { Spectrogram } from "./spectrogram.js";

const FLOOR_DB = -96; // what stands for silence: the step of 16-bit samples
const LOUD_DB = -12;
const CLIPPING_DB = -1;
const FALL_DB_PER_SECOND = 24; // by which the meter falls, so that an eye can follow a peak
const HOLD_SECONDS = 1.5;
const MOST_CLASSES = 10;
const MOST_EVENTS = 100;

export class Picture {
  /**
   * root: an element that the picture fills. It has the stylesheet style.css.
   * model: its name. labels: in the order of the scores. mels: bands a column. framesPerSecond: columns a second.
   * windowSeconds: what the network sees at once.
   * decibels: dB a unit of the columns' values; loud: dB that are shown as the loudest at least (edgeq/audio/decibels.py).
   * And where they are known: source, what is heard; hertz, the bands' centres, lowest first; threshold, the score at
   * which an event begins.
   */
  constructor(
    root,
    { model, labels, mels, framesPerSecond, windowSeconds, decibels, loud, source = "", hertz = null, threshold = null },
  ) {
    root.classList.add("picture");
    root.replaceChildren(...template(model, source, threshold));
    this._root = root;
    this._labels = labels;
    this._spectrogram = new Spectrogram(root.querySelector("canvas"), {
      mels, framesPerSecond, windowSeconds, hertz, decibels, loud,
    });
    this._meter = new Meter(root.querySelector(".level"));
    this._classes = new Classes(root.querySelector(".heard"), labels, threshold);
    this._events = new Events(root.querySelector(".events"));
    this._status = new Status(root.querySelector(".figures"), root.querySelector(".words"));
  }

  /** Take in columns of log-mel: Float32Array of count * mels values, a column after the other, lowest band first.
   *  seconds: of the sound at the end of the last one, where it is known: then a gap is drawn as one. */
  frames(columns, count, seconds) {
    this._spectrogram.push(columns, count, seconds);
  }

  /** Show scores, 0 to 1, in the order of the labels. silent: the window has nothing to hear. known: whether the best
   *  label is good enough to be given. active: labels whose event goes on. of: what they are scores of, in words. */
  scores(scores, { silent = false, known = true, active = [], of = "" } = {}) {
    this._classes.show(scores, silent, known, active);
    this._classes.tell(of);
  }

  /** Show a peak, in dB of full scale. */
  level(peakDb) {
    this._meter.show(peakDb);
  }

  /** Add an event: the second at which it became one, its label, its score; and which it is, counted from 1, where some
   *  may not have been told of. */
  event({ seconds, label, score, number }) {
    this._events.add(seconds, label, score, number);
    this._spectrogram.mark(seconds, label);
  }

  /** Show figures; what is left out stays. latencyMs, latencyP95Ms, inferenceMs: of a window. load: 1 is one core.
   *  dropped: samples that were lost. seconds: of sound so far. words: what is to be said of the source; "" takes it
   *  away. */
  status(figures) {
    this._status.show(figures);
  }

  /** Let go of what it listens to in the browser: another picture takes its place. */
  close() {
    this._spectrogram.close();
  }

  /** Whether sound comes: where not, the picture is dimmed, and why is said. */
  running(isRunning, why = "") {
    this._root.classList.toggle("stopped", !isRunning);
    this._root.querySelector(".state").textContent = isRunning ? "listening" : why;
  }
}

function template(model, source, threshold) {
  const page = document.createElement("template");
  page.innerHTML = `
    <header class="head">
      <h1></h1>
      <p class="source"></p>
      <p class="state" role="status">listening</p>
    </header>
    <p class="words" role="status"></p>
    <section class="card sound">
      <h2>Sound</h2>
      <div class="level" role="meter" aria-label="level, dB of full scale" aria-valuemin="${FLOOR_DB}" aria-valuemax="0">
        <div class="track"><div class="bar"></div><div class="hold"></div></div>
        <div class="ticks" aria-hidden="true"></div>
        <output class="decibels" aria-hidden="true"></output>
      </div>
      <canvas role="img" aria-label="spectrogram of the last seconds: time to the right, mel bands upwards"></canvas>
    </section>
    <section class="card heard">
      <h2>Heard <span class="of"></span></h2>
      <p class="now"><span class="name"></span><span class="score"></span></p>
      <div class="classes"></div>
    </section>
    <section class="card happened">
      <h2>Events <span class="count"></span><span class="threshold"></span></h2>
      <ol class="events" role="log" aria-label="events, newest first" tabindex="0"></ol>
    </section>
    <dl class="card figures"></dl>`;
  page.content.querySelector("h1").textContent = model;
  page.content.querySelector(".source").textContent = source;
  if (threshold !== null) page.content.querySelector(".threshold").textContent = `threshold ${percentage(threshold)}`;
  return [...page.content.childNodes];
}

/** A level that jumps up and falls slowly, with the peak held. */
class Meter {
  constructor(element) {
    this._element = element;
    this._bar = element.querySelector(".bar");
    this._hold = element.querySelector(".hold");
    this._words = element.querySelector(".decibels");
    this._shown = this._peak = this._held = FLOOR_DB;
    this._heldUntil = this._last = 0;
    this._asked = false;
    for (const decibels of [-60, -40, -20, -6]) {
      const tick = document.createElement("span");
      tick.textContent = `${decibels}`.replace("-", "−");
      tick.style.left = `${100 * share(decibels)}%`;
      element.querySelector(".ticks").append(tick);
    }
    this._draw();
  }

  show(peakDb) {
    this._peak = Math.min(0, Math.max(FLOOR_DB, peakDb));
    if (!this._asked) {
      this._asked = true;
      this._last = performance.now();
      requestAnimationFrame((now) => this._step(now));
    }
  }

  _step(now) {
    const seconds = Math.max(0, now - this._last) / 1000;
    this._last = now;
    this._shown = Math.max(this._peak, this._shown - FALL_DB_PER_SECOND * seconds);
    if (this._shown >= this._held || now > this._heldUntil) {
      if (this._shown >= this._held) this._heldUntil = now + 1000 * HOLD_SECONDS;
      this._held = Math.max(this._shown, this._held - FALL_DB_PER_SECOND * seconds);
    }
    this._draw();
    this._asked = this._shown > this._peak || this._held > this._shown;
    if (this._asked) requestAnimationFrame((next) => this._step(next));
  }

  _draw() {
    this._bar.style.clipPath = `inset(0 ${100 - 100 * share(this._shown)}% 0 0)`;
    this._hold.style.left = `${100 * share(this._held)}%`;
    this._element.classList.toggle("loud", this._held >= LOUD_DB);
    this._element.classList.toggle("clipping", this._held >= CLIPPING_DB);
    const figure = this._held > FLOOR_DB ? this._held.toFixed(0).replace("-0", "0").replace("-", "−") : "−∞";
    this._words.textContent = `${figure} dB`;
    this._element.setAttribute("aria-valuenow", this._held.toFixed(0));
  }
}

/** A bar a class in the labels' own order; of many classes the best, each in a place that it keeps while it is among
 *  them. */
class Classes {
  constructor(section, labels, threshold) {
    const element = section.querySelector(".classes");
    this._now = section.querySelector(".now");
    this._of = section.querySelector(".of");
    this._labels = labels;
    element.classList.toggle("marked", threshold !== null);
    element.style.setProperty("--threshold", threshold ?? 0);
    this._shown = labels.map((_, index) => index).slice(0, MOST_CLASSES);
    this._rows = this._shown.map((index) => {
      const row = document.createElement("div");
      row.className = "class";
      row.innerHTML = `<span class="name"></span>
        <span class="track" aria-hidden="true"><span class="bar"></span></span><span class="share"></span>`;
      element.append(row);
      const [name, track, percent] = row.children;
      name.textContent = labels[index];
      return { row, name, bar: track.firstElementChild, percent };
    });
    if (labels.length > MOST_CLASSES) {
      const note = document.createElement("p");
      note.className = "note";
      note.textContent = `the best ${MOST_CLASSES} of ${labels.length} classes`;
      element.append(note);
    }
    this._say("", 0, "nothing yet");
    this._fill(new Float32Array(labels.length), -1, []);
  }

  show(scores, silent, known, active) {
    const best = indexOfLargest(scores);
    if (this._labels.length > MOST_CLASSES) this._choose(scores);
    this._fill(scores, silent ? -1 : best, active);
    if (silent || !known) this._say("", 0, silent ? "silence" : "unknown");
    else this._say(this._labels[best], scores[best], "");
  }

  tell(of) {
    if (this._of.textContent !== of) this._of.textContent = of;
  }

  _choose(scores) {
    const order = [...scores.keys()].sort((one, other) => scores[other] - scores[one]);
    const wanted = new Set(order.slice(0, MOST_CLASSES));
    const stay = new Set(this._shown.filter((index) => wanted.has(index)));
    const come = [...wanted].filter((index) => !stay.has(index));
    this._shown = this._shown.map((index) => (stay.has(index) ? index : come.shift()));
  }

  _fill(scores, best, active) {
    this._rows.forEach(({ row, name, bar, percent }, place) => {
      const index = this._shown[place];
      const score = scores[index];
      if (name.textContent !== this._labels[index]) name.textContent = this._labels[index];
      bar.style.transform = `scaleX(${score})`;
      percent.textContent = percentage(score);
      row.classList.toggle("best", index === best);
      row.classList.toggle("active", active.includes(this._labels[index]));
    });
  }

  _say(label, best, instead) {
    this._now.classList.toggle("nothing", Boolean(instead));
    this._now.classList.toggle("unsure", !instead && best < 0.5);
    const [name, score] = this._now.children;
    name.textContent = instead || label;
    score.textContent = instead ? "" : percentage(best);
  }
}

/** Events, newest first. */
class Events {
  constructor(element) {
    this._element = element;
    this._count = element.closest("section").querySelector(".count");
    this._number = 0;
    this._element.innerHTML = `<li class="none">none yet</li>`;
  }

  add(seconds, label, score, number = this._number + 1) {
    if (this._number === 0) this._element.replaceChildren();
    this._number = number;
    this._count.textContent = this._number;
    const item = document.createElement("li");
    item.innerHTML = `<time></time><span class="name"></span><span class="share"></span>`;
    const [time, name, percent] = item.children;
    time.textContent = clock(seconds, 1);
    time.dateTime = `PT${seconds.toFixed(2)}S`;
    name.textContent = label;
    percent.textContent = percentage(score);
    this._element.prepend(item);
    if (this._element.children.length > MOST_EVENTS) this._element.lastElementChild.remove();
  }
}

const FIGURES = [
  ["seconds", "listened", (seconds) => clock(seconds, 0), ""],
  ["latencyMs", "latency", (ms) => ms.toFixed(ms < 10 ? 1 : 0), "ms"],
  ["inferenceMs", "a window takes", (ms) => ms.toFixed(ms < 10 ? 1 : 0), "ms"],
  ["load", "load", (load) => (100 * load).toFixed(0), "% of a core"],
  ["dropped", "lost", (samples) => short(samples), "samples"],
];

/** Figures by name, and a line of words. */
class Status {
  constructor(figures, words) {
    this._words = words;
    this._values = {};
    this._units = {};
    for (const [key, name, , unit] of FIGURES) {
      const entry = document.createElement("div");
      entry.hidden = key === "inferenceMs"; // until somebody gives it
      entry.innerHTML = `<dt></dt><dd><span class="value">–</span> <span class="unit"></span></dd>`;
      entry.querySelector("dt").textContent = name;
      figures.append(entry);
      this._units[key] = entry.querySelector(".unit");
      this._units[key].textContent = unit;
      this._values[key] = entry.querySelector(".value");
    }
  }

  show(figures) {
    for (const [key, , written] of FIGURES) {
      if (typeof figures[key] !== "number") continue;
      this._values[key].textContent = written(figures[key]);
      this._values[key].closest("div").hidden = false;
    }
    if (typeof figures.latencyP95Ms === "number") {
      this._units.latencyMs.textContent = `ms, p95 ${figures.latencyP95Ms.toFixed(0)}`;
    }
    if (typeof figures.dropped === "number") {
      this._values.dropped.closest("div").classList.toggle("bad", figures.dropped > 0);
    }
    if (typeof figures.words === "string" && figures.words !== this._words.textContent) {
      this._words.textContent = figures.words;
    }
  }
}

/** Seconds as h:mm:ss, with so many digits behind it. */
function clock(seconds, digits) {
  const whole = Math.floor(seconds * 10 ** digits) / 10 ** digits;
  const minutes = Math.floor(whole / 60);
  const rest = (whole - 60 * minutes).toFixed(digits).padStart(digits ? 3 + digits : 2, "0");
  return `${Math.floor(minutes / 60)}:${String(minutes % 60).padStart(2, "0")}:${rest}`;
}

/** A count in few characters: exact below 100,000. */
function short(count) {
  if (count < 1e5) return count.toLocaleString("en");
  return count < 1e6 ? `${(count / 1e3).toFixed(0)} k` : `${(count / 1e6).toFixed(1)} M`;
}

function percentage(score) {
  return `${(100 * score).toFixed(0)} %`;
}

function share(decibels) {
  return 1 - decibels / FLOOR_DB;
}

function indexOfLargest(values) {
  let best = 0;
  for (let index = 1; index < values.length; index += 1) if (values[index] > values[best]) best = index;
  return best;
}
