// One sample rate to another, a piece at a time, where a browser gives a microphone at its own rate alone.

const ZEROS = 64; // of the sinc on either side
const ROLL_OFF = 0.95; // of the lower rate's half: what lies above is taken out
const BETA = 9; // of the Kaiser window: aliases lie 90 dB lower

/** Samples at one rate, in Hz, to samples at another, by a windowed sinc; all pieces together are one signal. */
export class Resampler {
  constructor(from, to) {
    const divisor = gcd(from, to);
    this._up = to / divisor;
    this._down = from / divisor;
    const cutoff = ROLL_OFF * Math.min(1, to / from);
    this._half = Math.ceil(ZEROS / cutoff);
    this._held = new Float32Array(this._half); // silence before the first sample
    this._place = this._half; // of the next output in _held, whole samples and parts of `up`
    this._part = 0;
    this._kernels = Array.from({ length: this._up }, (_, part) => this._kernel(part / this._up, cutoff));
  }

  /** Take the next samples; those of the other rate that they complete. */
  push(samples) {
    const held = new Float32Array(this._held.length + samples.length);
    held.set(this._held);
    held.set(samples, this._held.length);
    const found = [];
    while (this._place + this._half < held.length) {
      const kernel = this._kernels[this._part];
      const first = this._place - this._half + 1;
      let sum = 0;
      for (let tap = 0; tap < kernel.length; tap += 1) sum += kernel[tap] * held[first + tap];
      found.push(sum);
      this._part += this._down;
      this._place += Math.floor(this._part / this._up);
      this._part %= this._up;
    }
    const unused = Math.min(held.length, this._place - this._half + 1);
    this._held = held.slice(unused);
    this._place -= unused;
    return Float32Array.from(found);
  }

  /** Weights of the samples from `half - 1` before a place to `half` behind it, for an output so far behind the place. */
  _kernel(part, cutoff) {
    const kernel = new Float64Array(2 * this._half);
    for (let tap = 0; tap < kernel.length; tap += 1) {
      const distance = tap - this._half + 1 - part;
      const inside = Math.max(0, 1 - (distance / this._half) ** 2);
      kernel[tap] = cutoff * sinc(cutoff * distance) * (bessel(BETA * Math.sqrt(inside)) / bessel(BETA));
    }
    const sum = kernel.reduce((total, weight) => total + weight, 0);
    return kernel.map((weight) => weight / sum);
  }
}

function sinc(x) {
  return x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x);
}

/** The modified Bessel function of order 0, by its series. */
function bessel(x) {
  let [sum, term] = [1, 1];
  for (let order = 1; term > 1e-12 * sum; order += 1) {
    term *= (x / (2 * order)) ** 2;
    sum += term;
  }
  return sum;
}

function gcd(one, other) {
  return other === 0 ? one : gcd(other, one % other);
}
