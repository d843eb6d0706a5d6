"""What a training needs of the machine it runs on: threads, a cache of log-mel maps, a bar that shows how far it is."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import torch
from rich.console import Console

from edgeq import corpora
from edgeq.audio.frontend import FrontendSpec
from edgeq.corpora import Corpus, Fault, packed, packed_corpus, soundness
from edgeq.corpora.packed_corpus import PackedCorpus
from edgeq.errors import InputError
from edgeq.progress import Advance, progress
from edgeq.training import processes
from edgeq.training.config import FitConfig
from edgeq.training.features import corpus_maps
from edgeq.training.fit import OnProgress
from edgeq.training.source import Recordings
from edgeq.training.streamed import PackedMaps


@contextmanager
def session(what: str, config: FitConfig, threads: int) -> Iterator[OnProgress]:
    """Train inside this: with so many threads, and a bar on stderr that the yielded function moves on."""
    if config.precision != config.usable_precision:
        note(f"this processor has no native {config.precision}: training in float32 instead")
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with _bar(what, config.length, patience=0) as advance:
            seen = 0.0

            def on_progress(reached: float, loss: float | None) -> None:
                nonlocal seen
                advance(reached - seen, "" if loss is None else f"loss {loss:.3f}")
                seen = reached

            yield on_progress
    finally:
        torch.set_num_threads(before)


def corpus_at(data: Path | str, layout: str | None = None) -> Corpus:
    """The corpus in a folder, packed or not. layout: as in `corpora.open`.

    Raises InputError as `packed.open` and `corpora.open`, and where a layout is given for a packed corpus.
    """
    if not packed.is_packed(data):
        return corpora.open(data, layout)
    if layout is not None:
        raise InputError(f"{data}: a packed corpus, which has no layout; leave out layout {layout}")
    return packed_corpus.open(data)


def sound(corpus: Corpus, spec: FrontendSpec, speeds: Sequence[float]) -> tuple[Corpus, tuple[Fault, ...]]:
    """A corpus without clips that are damaged, or too short for a front end at a speed, and what is wrong with those.

    Of a packed corpus such were left out when it was packed. The first of several processes reads the recordings, of
    which each may have a copy in a folder of its own. Raises InputError as `soundness.sound`, and where processes have
    other numbers of clips.
    """
    if isinstance(corpus, PackedCorpus):
        return corpus, ()
    together = processes.current()
    clips = f"{len(corpus.clips)} clips"
    together.check_same("data", clips, clips)
    least = spec.least_samples * max((1.0, *speeds)) / spec.sample_rate

    def found() -> list[tuple[int, str, str, bool]]:
        with _bar(f"{corpus.name}: recordings", len(corpus.clips)) as advance:
            faults = soundness.soundness(corpus, jobs=os.cpu_count() or 1, advance=advance, least=least).faults
        of = {one.path: one for one in faults}
        unsound = [(number, of[clip.path]) for number, clip in enumerate(corpus.clips) if clip.path in of]
        return [(number, one.kind, one.what, one.tolerated) for number, one in unsound]

    faults = tuple(Fault(corpus.clips[number].path, *rest) for number, *rest in together.from_main(found))
    return soundness.sound(corpus, faults), faults


def maps(corpus: Corpus, spec: FrontendSpec, config: FitConfig, work: Path) -> Recordings:
    """Log-mel of a corpus for a fit, at its speeds: from its shards where it is packed, else `features.corpus_maps`.

    These are cached in the folder `features` of `work`; where it takes long, with a bar on stderr. Of several processes
    the first one computes them, the others find them in the cache. Raises InputError as `streamed.PackedMaps` and
    `features.corpus_maps`.
    """
    if isinstance(corpus, PackedCorpus):
        return PackedMaps(corpus, spec, config)
    with processes.current().main_first(), _bar(f"{corpus.name}: log-mel", len(corpus.clips)) as advance:
        return corpus_maps(corpus, spec, config.speeds, work / "features", advance)


def note(text: str) -> None:
    """A line on stderr, from the first process alone."""
    if processes.current().main:
        Console(stderr=True).print(text)


def _bar(what: str, total: int, patience: float | None = None) -> AbstractContextManager[Advance]:
    if processes.current().main:
        return progress(what, total, patience)
    return nullcontext(lambda count, note="": None)
