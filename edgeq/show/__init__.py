"""The commands' results for people: tables and lines from the very values that --json prints."""

from edgeq.show.benchmarks import benchmarks
from edgeq.show.data import checked, checked_shards
from edgeq.show.exports import exported, verification
from edgeq.show.listening import classified, devices, mined, tuned
from edgeq.show.models import checks, inspection, models
from edgeq.show.packing import packing
from edgeq.show.training import ensemble, pruning, training

__all__ = [
    "benchmarks",
    "checked",
    "checked_shards",
    "checks",
    "classified",
    "devices",
    "ensemble",
    "exported",
    "inspection",
    "mined",
    "models",
    "packing",
    "pruning",
    "training",
    "tuned",
    "verification",
]
