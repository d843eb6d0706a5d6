// A spectrogram that scrolls: columns of log-mel on a canvas, with axes of time and frequency and marks at events.

const SPAN_SECONDS = 10;
const DELAY_SECONDS = 0.12; // behind what came last, so that it moves evenly though columns come in bunches
const MOST_DB = 70; // between the darkest and the brightest
const LEAST_DB = 30;
const GAP_SECONDS = 0.25; // a jump of the clock by more is drawn as a gap
const MOST_MARKS = 40;
const STEADY_DB = 3; // by which the range has to change for the colours to follow, so that they don't flicker
const SCALE_SECONDS = 0.5; // between looks at the range of colours
const LEFT = 40; // CSS pixels: the axis of frequency, the axis of time, names of events
const BOTTOM = 20;
const TOP = 18;
const RIGHT = 46; // the scale of colours, where there is room for it
const ROOM = 520;
const FONT = "11px system-ui, sans-serif";
const HERTZ = [50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000];

// From quiet to loud in even steps to the eye, and in grey. On a dark page the loud is bright: "magma" of matplotlib
// (CC0), at every eighth. On a light one it is dark, like ink: "BuPu" by Cynthia Brewer (colorbrewer.org, Apache 2.0).
const ON_DARK = ["000004", "1d1147", "51127c", "822681", "b73779", "e75263", "fc8961", "fec488", "fcfdbf"];
const ON_LIGHT = ["f7fcfd", "e0ecf4", "bfd3e6", "9ebcda", "8c96c6", "8c6bb1", "88419d", "810f7c", "4d004b"];

export class Spectrogram {
  constructor(canvas, { mels, framesPerSecond, windowSeconds, hertz, decibels, loud }) {
    this._canvas = canvas;
    this._context = canvas.getContext("2d");
    this._mels = mels;
    this._rate = framesPerSecond;
    this._hertz = hertz;
    this._decibels = decibels;
    this._loud = loud;
    this._span = Math.max(SPAN_SECONDS, 2 * windowSeconds);
    this._columns = Math.ceil((this._span + 1) * framesPerSecond);
    this._values = new Float32Array(this._columns * mels).fill(NaN); // a ring: column k lies at k % columns
    this._written = this._nextScale = 0;
    this._begun = 0; // seconds at column 0
    this._end = 0; // seconds shown at the right edge
    this._marks = [];
    this._low = loud - LEAST_DB;
    this._high = loud;
    this._ring = document.createElement("canvas");
    this._ring.width = this._columns;
    this._ring.height = mels;
    this._ringContext = this._ring.getContext("2d");
    this._last = 0;
    this._asked = false;
    this._still = matchMedia("(prefers-reduced-motion: reduce)");
    this._dark = matchMedia("(prefers-color-scheme: dark)");
    this._unwatch = watch(canvas, [this._still, this._dark], () => this._restyle());
    this._restyle();
  }

  push(columns, count, seconds = this._seconds + count / this._rate) {
    const missed = seconds - count / this._rate - this._seconds;
    if (this._written === 0 || missed < -GAP_SECONDS || missed > this._span) this._begin(seconds - count / this._rate);
    else if (missed > GAP_SECONDS) this._blank(Math.round(missed * this._rate));
    const first = this._written;
    const { _mels: mels, _values: values } = this;
    for (let column = Math.max(0, count - this._columns); column < count; column += 1) {
      const place = ((first + column) % this._columns) * mels;
      for (let band = 0; band < mels; band += 1) {
        values[place + band] = this._decibels * columns[column * mels + band];
      }
    }
    this._written += count;
    if (this._written >= this._nextScale && this._scaled()) this._paint(this._written - this._columns, this._written);
    else this._paint(first, this._written);
    this._animate();
  }

  mark(seconds, label) {
    this._marks.push({ seconds, label });
    if (this._marks.length > MOST_MARKS) this._marks.shift();
    this._animate();
  }

  close() {
    this._unwatch();
  }

  get _seconds() {
    return this._begun + this._written / this._rate;
  }

  _begin(seconds) {
    this._values.fill(NaN);
    this._ringContext.clearRect(0, 0, this._columns, this._mels);
    this._written = this._nextScale = 0;
    this._begun = this._end = seconds;
    this._marks = this._marks.filter((mark) => mark.seconds <= seconds);
  }

  _blank(count) {
    for (let column = 0; column < Math.min(count, this._columns); column += 1) {
      const place = (this._written + column) % this._columns;
      this._values.fill(NaN, place * this._mels, (place + 1) * this._mels);
      this._ringContext.clearRect(place, 0, 1, this._mels);
    }
    this._written += count;
  }

  /** Fit the range of colours to what is there, as edgeq/live/spectrogram.py does. Returns whether it changed. */
  _scaled() {
    this._nextScale = this._written + SCALE_SECONDS * this._rate;
    const present = this._values.filter((value) => value === value).sort();
    if (!present.length) return false;
    const most = present[Math.floor(0.998 * (present.length - 1))];
    const floor = present[Math.floor(0.1 * (present.length - 1))];
    const high = Math.max(most, this._loud);
    const low = Math.min(high - LEAST_DB, Math.max(high - MOST_DB, floor - STEADY_DB));
    if (Math.abs(high - this._high) < STEADY_DB && Math.abs(low - this._low) < STEADY_DB) return false;
    [this._low, this._high] = [low, high];
    return true;
  }

  _paint(from, to) {
    for (let column = Math.max(0, from, to - this._columns); column < to; column += 1) {
      const place = column % this._columns;
      const image = this._ringContext.createImageData(1, this._mels);
      for (let band = 0; band < this._mels; band += 1) {
        const value = this._values[place * this._mels + band];
        if (value !== value) continue;
        const share = Math.min(1, Math.max(0, (value - this._low) / (this._high - this._low)));
        image.data.set(this._map.subarray(4 * Math.round(255 * share)).subarray(0, 4), 4 * (this._mels - 1 - band));
      }
      this._ringContext.putImageData(image, place, 0);
    }
  }

  _restyle() {
    const style = getComputedStyle(this._canvas);
    this._ink = style.getPropertyValue("--ink").trim() || "#222";
    this._dim = style.getPropertyValue("--dim").trim() || "#666";
    this._ground = style.getPropertyValue("--track").trim() || "#ddd"; // where there is no sound, be it silence
    this._map = colourMap(this._dark.matches);
    this._paint(this._written - this._columns, this._written);
    this._animate();
  }

  _animate() {
    if (this._asked) return;
    this._asked = true;
    requestAnimationFrame((now) => this._step(now));
  }

  _step(now) {
    const passed = Math.min(0.1, Math.max(0, (now - this._last) / 1000));
    this._last = now;
    const behind = this._seconds - this._end;
    if (behind > 1 || behind < 0 || this._still.matches) this._end = this._seconds;
    else this._end = Math.min(this._seconds, this._end + passed * Math.max(0, 1 + 3 * (behind - DELAY_SECONDS)));
    this._draw();
    this._asked = this._end < this._seconds;
    if (this._asked) requestAnimationFrame((next) => this._step(next));
  }

  _draw() {
    const { width: cssWidth, height: cssHeight } = this._canvas.getBoundingClientRect();
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [Math.round(cssWidth * ratio), Math.round(cssHeight * ratio)];
    if (!width || !height) return;
    if (this._canvas.width !== width || this._canvas.height !== height) {
      [this._canvas.width, this._canvas.height] = [width, height];
    }
    const context = this._context;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, cssWidth, cssHeight);
    const right = cssWidth < ROOM ? 0 : RIGHT;
    const area = { left: LEFT, top: TOP, width: cssWidth - LEFT - right, height: cssHeight - TOP - BOTTOM };
    context.fillStyle = this._ground;
    context.fillRect(area.left, area.top, area.width, area.height);
    this._drawColumns(context, area);
    context.font = FONT;
    this._drawFrequencies(context, area);
    this._drawTimes(context, area);
    this._drawMarks(context, area);
    if (right) this._drawScale(context, area);
  }

  /** Where a second lies; for an eye that wants no motion the picture stands still and a line sweeps over it. */
  _across(seconds, area) {
    if (this._still.matches) return area.left + (area.width * modulo(seconds, this._span)) / this._span;
    return area.left + area.width * (1 - (this._end - seconds) / this._span);
  }

  _drawColumns(context, area) {
    context.save();
    context.beginPath();
    context.rect(area.left, area.top, area.width, area.height);
    context.clip();
    context.imageSmoothingEnabled = true;
    const pieces = this._still.matches ? this._sweep() : [[this._end - this._span, this._end]];
    for (const [from, to] of pieces) {
      const left = this._across(from, area);
      const perColumn = area.width / this._span / this._rate;
      const first = Math.max(0, this._written - this._columns, Math.floor((from - this._begun) * this._rate));
      const last = Math.min(this._written, Math.ceil((to - this._begun) * this._rate));
      for (let column = first; column < last; ) {
        const place = column % this._columns;
        const count = Math.min(last - column, this._columns - place);
        const x = left + (column - (from - this._begun) * this._rate) * perColumn;
        context.drawImage(this._ring, place, 0, count, this._mels, x, area.top, count * perColumn, area.height);
        column += count;
      }
    }
    if (this._still.matches) {
      context.fillStyle = this._ink;
      context.fillRect(this._across(this._end, area), area.top, 2, area.height);
    }
    context.restore();
  }

  _sweep() {
    const turn = Math.floor(this._end / this._span) * this._span;
    return [[this._end - this._span + 0.15, turn], [turn, this._end]].filter(([from, to]) => to > from);
  }

  _drawFrequencies(context, area) {
    context.fillStyle = this._dim;
    context.textAlign = "right";
    context.textBaseline = "middle";
    const band = area.height / this._mels;
    let free = area.top + area.height + 6;
    for (const hertz of this._hertz ? HERTZ : []) {
      const index = between(this._hertz, hertz);
      if (index === null) continue;
      const y = area.top + area.height - (index + 0.5) * band;
      if (y > free - 12) continue;
      free = y;
      context.fillText(hertz < 1000 ? `${hertz}` : `${hertz / 1000}k`, area.left - 8, y);
      context.fillRect(area.left - 5, Math.round(y), 4, 1);
    }
    context.textAlign = "left";
    context.fillText(this._hertz ? "Hz" : "mel", 0, TOP / 2);
  }

  _drawTimes(context, area) {
    context.fillStyle = this._dim;
    context.textAlign = "center";
    context.textBaseline = "alphabetic";
    const least = (50 / area.width) * this._span;
    const step = [1, 2, 5, 10, 15, 30, 60].find((one) => one >= least) ?? 60;
    const y = area.top + area.height;
    for (let tick = Math.ceil((this._end - this._span) / step) * step; tick <= this._end; tick += step) {
      if (tick < 0) continue;
      const x = this._across(tick, area);
      context.fillRect(Math.round(x), y, 1, 4);
      const words = minutes(tick);
      const half = context.measureText(words).width / 2;
      if (x - half >= area.left - 8 && x + half <= area.left + area.width) context.fillText(words, x, y + 16);
    }
  }

  _drawMarks(context, area) {
    context.textBaseline = "middle";
    context.textAlign = "left";
    let free = -Infinity;
    for (const { seconds, label } of this._marks) {
      if (seconds < this._end - this._span || seconds > this._end) continue;
      const x = this._across(seconds, area);
      context.fillStyle = this._ink;
      context.fillRect(Math.round(x), area.top - 4, 1, area.height + 4);
      const width = context.measureText(label).width;
      const left = Math.min(x + 4, area.left + area.width - width);
      if (left < free) continue;
      context.fillText(label, left, TOP / 2);
      free = left + width + 8;
    }
  }

  _drawScale(context, area) {
    const left = area.left + area.width + 12;
    for (let y = 0; y < area.height; y += 1) {
      const [red, green, blue] = this._map.subarray(4 * Math.round(255 * (1 - y / area.height)));
      context.fillStyle = `rgb(${red} ${green} ${blue})`;
      context.fillRect(left, area.top + y, 6, 1);
    }
    context.fillStyle = this._dim;
    context.textAlign = "left";
    context.textBaseline = "middle";
    context.fillText("dB", left, TOP / 2);
    for (let tick = Math.ceil(this._low / 20) * 20; tick <= this._high; tick += 20) {
      const y = area.top + area.height * (1 - (tick - this._low) / (this._high - this._low));
      const inside = Math.min(area.top + area.height - 6, Math.max(area.top + 6, y));
      context.fillText(`${tick}`.replace("-", "−"), left + 10, inside);
    }
  }
}

/** Have changes of size and style told. Gives what ends that. */
function watch(canvas, media, changed) {
  const observer = new ResizeObserver(changed);
  observer.observe(canvas);
  for (const one of media) one.addEventListener("change", changed);
  return () => {
    observer.disconnect();
    for (const one of media) one.removeEventListener("change", changed);
  };
}

/** RGBA of 256 steps, from quiet to loud. */
function colourMap(dark) {
  const stops = (dark ? ON_DARK : ON_LIGHT).map((hex) => [0, 2, 4].map((at) => parseInt(hex.slice(at, at + 2), 16)));
  const map = new Uint8ClampedArray(4 * 256);
  for (let step = 0; step < 256; step += 1) {
    const at = (step / 255) * (stops.length - 1);
    const below = Math.min(stops.length - 2, Math.floor(at));
    for (let part = 0; part < 3; part += 1) {
      map[4 * step + part] = stops[below][part] + (at - below) * (stops[below + 1][part] - stops[below][part]);
    }
    map[4 * step + 3] = 255;
  }
  return map;
}

/** Where a value lies in a list that ascends, as a fraction of an index; null outside of it. */
function between(ascending, value) {
  if (value < ascending[0] || value > ascending[ascending.length - 1]) return null;
  const above = Math.max(1, ascending.findIndex((one) => one >= value));
  const [low, high] = [ascending[above - 1], ascending[above]];
  return above - 1 + (value - low) / (high - low);
}

function minutes(seconds) {
  return `${Math.floor(seconds / 60)}:${String(Math.round(seconds % 60)).padStart(2, "0")}`;
}

function modulo(value, by) {
  return ((value % by) + by) % by;
}
