// From window probabilities to answers, as edgeq/decision.py: a clip's scores, and events in sound that goes on.

/** Scores of a clip: the mean of its ungated windows, of all of them where every one is gated. */
export class ClipScores {
  constructor(classes) {
    this._ungated = new Float64Array(classes);
    this._all = new Float64Array(classes);
    this._ungatedCount = this._count = 0;
  }

  add(probabilities, gated) {
    for (let index = 0; index < probabilities.length; index += 1) {
      this._all[index] += probabilities[index];
      if (!gated) this._ungated[index] += probabilities[index];
    }
    this._count += 1;
    if (!gated) this._ungatedCount += 1;
  }

  /** Whether every window so far was gated. */
  get silent() {
    return this._ungatedCount === 0;
  }

  scores() {
    const [total, count] = this.silent ? [this._all, this._count] : [this._ungated, this._ungatedCount];
    return Float32Array.from(total, (sum) => sum / count);
  }
}

/** Events in sound that goes on, window by window. rule: the fields of edgeq's Rule. */
export class Detector {
  constructor(rule, labels) {
    this._rule = rule;
    this._labels = labels;
    this._allowed = labels.map((label) => !rule.background.includes(label));
    this.reset();
  }

  /** Forget what was heard: what comes next does not go on from it, as after a gap in the sound. */
  reset() {
    const zeros = () => this._labels.map(() => 0);
    this._last = [];
    [this._run, this._rest, this._since] = [zeros(), zeros(), zeros()];
    this._active = this._labels.map(() => false);
    this._scores = zeros();
  }

  /** Take in the next window: the event that begins with it, or null. */
  update(seconds, probabilities, gated) {
    if (!probabilities.every(Number.isFinite)) {
      throw new Error("the model's probabilities hold NaN or infinity; export the model again");
    }
    const { on, off, smoothing, patience, cooldown } = this._rule;
    this._last.push(gated ? new Float32Array(probabilities.length) : probabilities);
    if (this._last.length > smoothing) this._last.shift();
    let begun = -1;
    const count = this._last.length;
    const scores = this._labels.map((_, label) => this._last.reduce((sum, one) => sum + one[label], 0) / count);
    this._scores = scores;
    scores.forEach((score, label) => {
      const ended = this._active[label] && score < off;
      if (ended) this._active[label] = false;
      this._run[label] = score >= on ? this._run[label] + 1 : 0;
      if (this._run[label] === 1) this._since[label] = seconds;
      const able = this._allowed[label] && !this._active[label] && this._rest[label] === 0;
      if (able && this._run[label] >= patience && (begun < 0 || score > scores[begun])) begun = label;
      this._rest[label] = ended ? cooldown : Math.max(this._rest[label] - 1, 0);
    });
    if (begun < 0) return null;
    this._active[begun] = true;
    return { label: this._labels[begun], score: scores[begun], startSeconds: this._since[begun], seconds };
  }

  /** Smoothed scores of the labels as of the last window; 0 before the first. */
  get scores() {
    return [...this._scores];
  }

  /** The label of the best smoothed score; null before the first window, and below the rule's `unknown`. */
  get heard() {
    const score = Math.max(...this._scores);
    return score > 0 && score >= (this._rule.unknown ?? 0) ? this._labels[this._scores.indexOf(score)] : null;
  }

  /** Labels whose event goes on. */
  get active() {
    return this._labels.filter((_, label) => this._active[label]);
  }
}
