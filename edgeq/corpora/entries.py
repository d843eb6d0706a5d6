"""The clips that a corpus's tables name, sorted into those that are there and those at fault."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from edgeq.corpora.clips import Clip, GrowingClips
from edgeq.corpora.columns import Seen
from edgeq.corpora.faults import Fault, GrowingFaults


@dataclass
class Entries:
    """Clips of a table as they are read, in order. classes: all labels, of clips that are missing too."""

    clips: GrowingClips = field(default_factory=GrowingClips)
    faults: GrowingFaults = field(default_factory=GrowingFaults)
    classes: set[str] = field(default_factory=set)
    _seen: Seen = field(default_factory=Seen)

    def add(self, where: str, clip: Clip) -> None:
        """Take in a clip; where its file is not there or was named before, a fault. where: its line, for people."""
        self.classes.update(clip.labels)
        if not self._seen.add(str(clip.path)):
            self.faults.append(Fault(clip.path, "duplicate", f"{where}: {clip.path} is listed twice; drop one line"))
        elif not _is_there(clip.path):
            told = f"{where}: {clip.path} is not there; restore it or drop the line"
            self.faults.append(Fault(clip.path, "missing", told))
        else:
            self.clips.append(clip)

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes, sorted."""
        return tuple(sorted(self.classes))


def _is_there(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that no file can have
        return False
