"""What a training needs of the machine it runs on: threads, a cache of log-mel maps, a bar that shows how far it is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from edgeq.audio.frontend import FrontendSpec
from edgeq.corpora import Corpus
from edgeq.training.config import FitConfig
from edgeq.training.features import CorpusMaps, corpus_maps
from edgeq.training.fit import EpochDone


@contextmanager
def session(what: str, config: FitConfig, threads: int) -> Iterator[EpochDone]:
    """Train inside this: with so many threads, and a bar of epochs on stderr that the yielded function moves on."""
    if config.precision != config.usable_precision:
        note("this processor has no native bfloat16: training in float32 instead")
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with _progress(what, config.epochs) as on_epoch:
            yield on_epoch
    finally:
        torch.set_num_threads(before)


def maps(corpus: Corpus, spec: FrontendSpec, speeds: Sequence[float], work: Path) -> CorpusMaps:
    """`features.corpus_maps`, cached in the folder `features` of `work`; where they are made, with a bar on stderr."""
    with ExitStack() as shown:
        advance: EpochDone | None = None

        def done(clips: int, total: int) -> None:
            nonlocal advance
            advance = advance or shown.enter_context(_progress(f"{corpus.name}: log-mel", total))
            advance(clips, 0.0)

        return corpus_maps(corpus, spec, speeds, work / "features", done)


def note(text: str) -> None:
    """A line on stderr."""
    Console(stderr=True).print(text)


@contextmanager
def _progress(what: str, total: int) -> Iterator[EpochDone]:
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, TextColumn("{task.fields[note]}"), console=Console(stderr=True)) as progress:
        task = progress.add_task(what, total=total, note="")

        def done(count: int, loss: float) -> None:
            progress.update(task, completed=count, note=f"loss {loss:.3f}" if loss else "")

        yield done
