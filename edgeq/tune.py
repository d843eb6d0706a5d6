"""The rule for events, fitted to recordings: false alarms an hour against events missed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from edgeq import bundle, corpora, zoo
from edgeq import runtime as runtimes
from edgeq.audio.windows import windows
from edgeq.bundle import LOWERING, Bundle, Content
from edgeq.corpora import Clip, Corpus, metrics
from edgeq.corpora.metrics import Interval
from edgeq.corpora.soundness import check_share
from edgeq.corpora.trained import trained_on
from edgeq.decision import DecisionRule, Rule, Smoother, Trigger
from edgeq.errors import InputError
from edgeq.progress import progress
from edgeq.runtime import Runtime, web_page

ON = np.arange(1, 100) / 100
"""The thresholds that are tried."""
OFF_SHARE = 2 / 3
"""`off` as a part of `on`. It is not fitted: in recordings of one event each, a lower one never misses more."""
FALSE_ALARMS = 1.0
"""False alarms an hour that are let pass, where none are asked for."""
_NAMED = 5


@dataclass(frozen=True)
class Counts:
    """What one pair of thresholds made of the recordings."""

    on: float
    off: float
    false_alarms: int
    missed: int


@dataclass(frozen=True)
class LabelCounts:
    """What the chosen thresholds made of one label: its recordings, those missed, and its events in others."""

    label: str
    events: int
    missed: int
    false_alarms: int


@dataclass(frozen=True)
class Tuned:
    """A rule, and what it did on the recordings that it was fitted to: expect somewhat worse of others.

    false_alarms_per_hour: over `hours` of all recordings, with the exact interval. missed: the part of `events` (the
    recordings whose label is one that can be an event) in which no event of their label began. labels: the same, label
    by label. curve: every pair of thresholds that was tried. warnings: what to know beside the figures, a line each.
    """

    bundle: Bundle
    stage: str
    rule: Rule
    counts: Counts
    events: int
    hours: float
    labels: tuple[LabelCounts, ...]
    curve: tuple[Counts, ...]
    warnings: tuple[str, ...]

    @property
    def false_alarms_per_hour(self) -> Interval:
        return metrics.interval_over_hours(self.counts.false_alarms, self.hours)

    @property
    def missed(self) -> Interval:
        return metrics.interval_over_clips(self.counts.missed, self.events)

    def to_json(self) -> dict[str, Any]:
        """The contract's keys, and what stands behind the figures."""
        return {
            "bundle": str(self.bundle.folder),
            "stage": self.stage,
            "on": self.rule.on,
            "off": self.rule.off,
            "false_alarms_per_hour": self.false_alarms_per_hour.mean,
            "missed": self.missed.mean,
            "intervals": {"false_alarms_per_hour": asdict(self.false_alarms_per_hour), "missed": asdict(self.missed)},
            "counts": {**asdict(self.counts), "events": self.events, "hours": self.hours},
            "rule": self.rule.to_json(),
            "labels": [asdict(one) for one in self.labels],
            "curve": [asdict(one) for one in self.curve],
            "kind": "measured",
            "warnings": list(self.warnings),
        }


def tune(
    model: Bundle | str | Path,
    data: Path | str,
    output: Path | str | None = None,
    *,
    false_alarms: float = FALSE_ALARMS,
    smoothing: int | None = None,
    patience: int | None = None,
    cooldown: int | None = None,
    unknown: float | None = None,
    background: Sequence[str] | None = None,
    runtime: str | None = None,
    int8: bool = False,
) -> Tuned:
    """Choose the thresholds that miss the fewest events while false alarms stay at or below so many an hour.

    model: a bundle, its folder or zoo name. data: a folder that `corpora.open` takes, with one label a recording;
    recordings that the model says it was trained on are left out. An event of a recording's own label is right at any
    place in it; one of any other label is a false alarm, as is every one where the model lacks the label or it is
    background. output: the bundle to write, by default build/<name>; C in it gets the rule, its .onnx and .tflite files
    are as they were. smoothing to background: the rest of the rule, see `Rule`; by default the model's own. runtime,
    int8: as `runtime.open` and `runtime.choose_stage` take them.
    Of thresholds that do as well as each other it takes the middle one; where none keeps the false alarms as low, that
    with the fewest, and a warning. Memory does not grow with the recordings.
    Raises InputError where the model or folder is none, no recording is left or has a label that can be an event,
    or recordings cannot be decoded, as `soundness.check_share`.
    """
    if not 0 <= false_alarms < float("inf"):
        raise InputError(f"false alarms {false_alarms} an hour: expected 0 or more")
    opened = model if isinstance(model, Bundle) else zoo.find(model)
    destination = Path(output) if output else Path("build") / opened.name
    bundle.check_place(destination)
    rule = (opened.decision.events or Rule()).overridden(
        smoothing=smoothing,
        patience=patience,
        cooldown=cooldown,
        unknown=unknown,
        background=None if background is None else tuple(background),
    )
    Trigger(rule, opened.labels)  # a background that is no label speaks before the work
    corpus, warnings = _held_out(opened, corpora.open(data))
    stage = runtimes.choose_stage(opened, runtime, int8)
    ready = runtimes.open(opened, stage=stage, runtime=runtime)
    heard = _Heard(opened, rule, corpus)
    with progress(f"{opened.name}: recordings", len(corpus.clips)) as advance:
        for clip in corpus.clips:
            heard.add(ready, clip)
            advance(1)
    curve = heard.counts()
    chosen, told = _choose(curve, heard.hours, false_alarms)
    fitted = replace(rule, on=chosen.on, off=chosen.off)
    decision = DecisionRule(opened.decision.kind, fitted)
    warnings += [*heard.warnings(), *told]
    written = bundle.copy(
        opened,
        destination,
        exports=_exports(opened, decision),
        lowering=opened.file(LOWERING) if LOWERING in opened.files else None,
        decision=decision,
    )
    labels = heard.labels(curve.index(chosen))
    return Tuned(written, stage, fitted, chosen, heard.events, heard.hours, labels, curve, tuple(warnings))


class _Heard:
    """Counts over recordings, for all thresholds at once. Raises InputError where there is no event to miss."""

    def __init__(self, opened: Bundle, rule: Rule, corpus: Corpus) -> None:
        self._opened, self._rule, self._corpus, self._clips = opened, rule, corpus.name, len(corpus.clips)
        self._off = np.round(ON * OFF_SHARE, 4)
        self._able = set(opened.labels) - {*rule.background}
        if not any(clip.label in self._able for clip in corpus.clips):
            raise InputError(
                f"none of the {self._clips} recordings has a label that can be an event; they are "
                f"{', '.join(corpus.labels):.100}; the model knows {', '.join(opened.labels):.200}"
            )
        classes = len(opened.labels)
        self._false_alarms, self._missed = (np.zeros((classes, len(ON)), int) for _ in range(2))
        self._events = np.zeros(classes, int)
        self._unreadable: list[str] = []
        self._others: Counter[str] = Counter()
        self.hours = 0.0

    @property
    def events(self) -> int:
        """Recordings whose label can be an event."""
        return int(self._events.sum())

    def add(self, ready: Runtime, clip: Clip) -> None:
        """Take in a recording; one that cannot be decoded is left out as long as there are few."""
        try:
            others, found, seconds = self._run(ready, clip)
        except InputError as error:
            if not str(error).startswith(f"{clip.path}:"):  # about the model, not about the recording
                raise
            self._unreadable.append(str(error))
            check_share(self._corpus, self._unreadable, self._clips)
            return
        self.hours += seconds / 3600
        self._false_alarms += others
        if clip.label in self._able:
            own = self._opened.labels.index(clip.label)
            self._events[own] += 1
            self._missed[own] += ~found
        else:
            self._others[clip.label] += 1

    def _run(self, ready: Runtime, clip: Clip) -> tuple[np.ndarray, np.ndarray, float]:
        """Events of other labels, (classes, thresholds); whether one of its own began, by threshold; and the
        recording's seconds."""
        labels, spec = self._opened.labels, self._opened.frontend
        own = labels.index(clip.label) if clip.label in labels else len(labels)
        smoother = Smoother(self._rule.smoothing, len(labels))
        trigger = Trigger(self._rule, labels, ON, self._off)
        others, found, samples = np.zeros((len(labels), len(ON)), int), np.zeros(len(ON), bool), 0
        for batch in windows(clip.path, spec):
            samples += batch.samples
            if not len(batch.features):
                continue
            for probabilities, gated in zip(ready.predict(batch.features), batch.gated, strict=True):
                begun = trigger.update(smoother.add(probabilities, bool(gated)))
                wrong = np.flatnonzero((begun >= 0) & (begun != own))
                others[begun[wrong], wrong] += 1
                found |= begun == own
        return others, found, samples / spec.sample_rate

    def counts(self) -> tuple[Counts, ...]:
        """What each pair of thresholds did."""
        rows = zip(ON, self._off, self._false_alarms.sum(axis=0), self._missed.sum(axis=0), strict=True)
        return tuple(Counts(float(on), float(off), int(alarms), int(missed)) for on, off, alarms, missed in rows)

    def labels(self, index: int) -> tuple[LabelCounts, ...]:
        """What that pair of thresholds did, by label: of those that had a recording or an event."""
        rows = zip(self._opened.labels, self._events, self._missed[:, index], self._false_alarms[:, index], strict=True)
        counts = (LabelCounts(label, int(events), int(missed), int(alarms)) for label, events, missed, alarms in rows)
        return tuple(one for one in counts if one.events or one.false_alarms)

    def warnings(self) -> list[str]:
        told = []
        if self._unreadable:
            told.append(f"{_counted(len(self._unreadable))} cannot be decoded; the first: {self._unreadable[0]}")
        if self._others:
            names = ", ".join(label for label, _ in self._others.most_common(_NAMED))
            more = f" and {len(self._others) - _NAMED} more" if len(self._others) > _NAMED else ""
            told.append(
                f"{_counted(self._others.total())} of labels that are no event to the model ({names}{more}): "
                "all that is heard in them is a false alarm"
            )
        return told


def _counted(recordings: int) -> str:
    return f"{recordings} recording{'' if recordings == 1 else 's'}"


def _held_out(opened: Bundle, corpus: Corpus) -> tuple[Corpus, list[str]]:
    """The recordings that the model was not trained on."""
    known = set(trained_on(opened.provenance, corpus))
    if not known:
        return corpus, []
    if len(known) == len(corpus.clips):
        raise InputError(
            f"{opened.name} was trained on all {len(known)} recordings: thresholds need others; give some that it has "
            "not heard"
        )
    rest = corpus.select(lambda clip: clip not in known)
    return rest, [f"{len(known)} of {len(corpus.clips)} recordings are left out: the model was trained on them"]


def _choose(curve: Sequence[Counts], hours: float, false_alarms: float) -> tuple[Counts, list[str]]:
    told = []
    # Where hours are few, even silence does not show that alarms are rare.
    open_end = metrics.interval_over_hours(0, hours).high
    if open_end > false_alarms:
        lasted = f"{hours:.1f} hours" if hours >= 1 else f"{60 * hours:.1f} minutes"
        wanted = f"; it takes {hours * open_end / false_alarms:.1f} hours" if false_alarms else ""
        told.append(
            f"{lasted} of recordings are too few to show {false_alarms:g} or fewer false alarms an hour: with none "
            f"heard in them, up to {open_end:.1f} an hour remain possible{wanted}"
        )
    fewest = min(one.false_alarms for one in curve)
    most = max(fewest, false_alarms * hours)
    if fewest > false_alarms * hours:
        told.append(
            f"no threshold has {false_alarms:g} or fewer false alarms an hour; this one has the fewest: a longer "
            "patience or smoothing may do it"
        )
    allowed = [one for one in curve if one.false_alarms <= most]
    best = min((one.missed, one.false_alarms) for one in allowed)
    equal = [one for one in allowed if (one.missed, one.false_alarms) == best]
    return equal[len(equal) // 2], told


def _exports(opened: Bundle, decision: DecisionRule) -> Mapping[str, Content]:
    """The bundle's exported files as they are; of C and of a page, which hold the rule, what they are with this one."""

    def c() -> Mapping[str, bytes]:
        from edgeq.cortexm.project import project
        from edgeq.graph import from_tflite

        graph = from_tflite.read(opened.checked(opened.exported("tflite-int8")))
        return project(graph, opened.name, opened.labels, opened.frontend, decision).files

    def page(stage: str) -> Mapping[str, bytes]:
        at = f"{opened.exported(stage)}/"
        files = {name.removeprefix(at): opened.file(name) for name in opened.exported_files(stage)}
        return web_page.with_decision(files, decision)

    own: dict[str, Content] = {"c-int8": c, **{stage: partial(page, stage) for stage in web_page.STAGES}}
    return {stage: own.get(stage, partial(opened.export, stage)) for stage in opened.exports}
