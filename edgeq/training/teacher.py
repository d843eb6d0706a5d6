"""A teacher: networks whose mean answer a student learns from, on the very sounds that the student hears."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from edgeq.audio.frontend import FrontendSpec, mel_filterbank
from edgeq.audio.frontend_torch import Features
from edgeq.audio.maps import logmel_spec
from edgeq.errors import InputError
from edgeq.training import augment, loss
from edgeq.training import device as devices
from edgeq.training.augment import Changes, Place
from edgeq.training.config import PAPER, Distillation, FitConfig
from edgeq.training.features import CorpusMaps


@dataclass(frozen=True, eq=False)
class Member:
    """One network of a teacher.

    network: features (batch, components, mels, frames) to logits (batch, classes), any callable; a module is put in
    evaluation mode. The logarithms of a softmax's probabilities do as well as its logits. labels: one a class. output:
    "softmax" or "sigmoid". frontend: with its normalisation. sha256: of the weights, or whatever else tells this
    network from others. maps: log-mel of the student's clips through this front end, at the same speeds; only where
    `audio.maps.logmel_spec` of the two front ends differ.
    """

    name: str
    network: Callable[[Tensor], Tensor]
    labels: tuple[str, ...]
    output: str
    frontend: FrontendSpec
    sha256: str
    maps: CorpusMaps | None = None


@dataclass(frozen=True, eq=False)
class Teacher:
    """One or more networks, and how a student learns from them.

    Its answer is the mean of its members' softened probabilities; nothing of it is trained.
    """

    members: tuple[Member, ...]
    how: Distillation = PAPER

    def prepared(self, labels: Sequence[str], output: str, spec: FrontendSpec, clips: Sequence[int]) -> Teacher:
        """The teacher of a student with these labels and this output and front end, on some clips of the corpus.

        Answers come in the order of the labels, maps are those of the clips. Raises InputError as `check`.
        """
        members = []
        for member in self.members:
            check(member, labels, output, spec)
            network = member.network
            if member.labels != tuple(labels):
                network = _Reordered(network, [member.labels.index(label) for label in labels])
            maps = None if member.maps is None else member.maps.select(clips)
            members.append(replace(member, network=network, labels=tuple(labels), maps=maps))
        return replace(self, members=tuple(members))


def check(member: Member, labels: Sequence[str], output: str, spec: FrontendSpec) -> None:
    """Raises InputError where a network cannot teach this student: other labels, output or window, and by how much."""
    missing, more = sorted(set(labels) - set(member.labels)), sorted(set(member.labels) - set(labels))
    if missing or more:
        parts = ((f"does not know {_some(missing)}", missing), (f"has {_some(more)} besides", more))
        raise InputError(
            f"teacher {member.name}: {len(member.labels)} labels, the student {len(labels)}: it "
            f"{' and '.join(text for text, found in parts if found)}; expected the same labels"
        )
    if member.output != output:
        raise InputError(f"teacher {member.name}: a {member.output} output, the student a {output}; expected the same")
    window = member.frontend.window_seconds
    if window != spec.window_seconds:
        raise InputError(
            f"teacher {member.name}: hears windows of {window:g} s, the student of {spec.window_seconds:g} s: "
            f"{abs(window - spec.window_seconds):g} s apart; expected equal windows"
        )


class Lesson:
    """A teacher set up for one fit: what it says of each batch that the student is about to hear.

    Both hear the same crop of the same recording at the same speed, with the same gain, filter and mixture; the
    student's stripes, a mask on its input, the teacher is spared. A member whose log-mel is the student's takes the
    student's own map, with its own derivatives and normalisation. The crops of any other are cut from its own maps:
    at the student's second, rounded to its frames; gain, filter (by frequency, level beyond the student's highest and
    lowest mel) and mixture are drawn alike, but the mixture levels the peaks of its own map.
    """

    def __init__(self, teacher: Teacher, spec: FrontendSpec, config: FitConfig, output: str, classes: int) -> None:
        """Raises InputError where a member takes no crops of the lengths in `config`, or gives other classes."""
        self.members, self.how, self.output, self.config = teacher.members, teacher.how, output, config
        self.device = devices.chosen(config)
        self.base = logmel_spec(spec)
        self.features = {member.frontend: Features(member.frontend).to(self.device) for member in self.members}
        self.elsewhere: dict[FrontendSpec, _Elsewhere] = {}
        for member in self.members:
            if isinstance(member.network, nn.Module):
                channels_last(member.network.eval().cpu())
            base = logmel_spec(member.frontend)
            if base != self.base and base not in self.elsewhere:
                if member.maps is None:
                    raise InputError(f"teacher {member.name}: hears another log-mel than the student; give its maps")
                self.elsewhere[base] = _Elsewhere(member.maps, base, spec, config)
            who = f"teacher {member.name}"
            augment.check_crops(who, member.network, member.frontend, config.crop_seconds, classes)
            if isinstance(member.network, nn.Module):
                member.network.to(self.device)

    @torch.no_grad()
    def answers(self, power: Tensor, places: Sequence[Place], length: int, changes: Changes) -> Tensor:
        """The teacher's softened probabilities of a batch, (batch, classes).

        power: what the student hears, augmented, before the logarithm. places: its crops; length: which of the config's
        crop lengths they have. changes: by which the batch was augmented.
        """
        powers = {self.base: power}
        inputs: dict[FrontendSpec, Tensor] = {}
        total = torch.zeros((), device=self.device)
        for member in self.members:
            spec = member.frontend
            if spec not in inputs:
                base = logmel_spec(spec)
                if base not in powers:
                    powers[base] = self.elsewhere[base].heard(places, length, changes)
                features = self.features[spec](augment.to_log(powers[base], spec))
                if changes.mixup is not None:
                    features, _ = augment.mixup(features, features.new_zeros(len(features), 1), changes.mixup)
                inputs[spec] = features.contiguous(memory_format=torch.channels_last)
            with devices.autocast(self.config, self.device):
                logits = member.network(inputs[spec])
            total = total + loss.softened(logits.float(), self.output, self.how.temperature)
        return total / len(self.members)


def channels_last(network: nn.Module) -> None:
    """Lay out the parameters of convolutions as they run fastest: with pools, several times as fast."""
    for parameter in network.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.to(memory_format=torch.channels_last)


class _Elsewhere:
    """The student's crops in the log-mel of another front end."""

    def __init__(self, maps: CorpusMaps, spec: FrontendSpec, student: FrontendSpec, config: FitConfig) -> None:
        self.lengths = [augment.crop_frames(spec, seconds) for seconds in config.crop_seconds]
        self.powers = augment.mel_powers(maps, spec, max(self.lengths))
        self.frames_per_frame = (spec.sample_rate / spec.hop_length) / (student.sample_rate / student.hop_length)
        axis = np.linspace(0, 1, student.n_mels)
        self.bands = torch.from_numpy(np.interp(_centres(spec), _centres(student), axis)).float()

    def heard(self, places: Sequence[Place], length: int, changes: Changes) -> Tensor:
        frames = self.lengths[length]
        moved = [
            Place(clip, speed, min(round(start * self.frames_per_frame), self.powers[speed][clip].shape[1] - frames))
            for clip, speed, start in places
        ]
        device = changes.gain.device
        power = augment.crop(self.powers, moved, frames).to(device)
        return augment.augmented(power, power.new_zeros(len(power), 1), self.bands.to(device), changes)[0]


class _Reordered(nn.Module):
    def __init__(self, network: Callable[[Tensor], Tensor], order: list[int]) -> None:
        super().__init__()
        self.network, self.order = network, order

    def forward(self, features: Tensor) -> Tensor:
        return self.network(features)[:, self.order]


def _centres(spec: FrontendSpec) -> np.ndarray:
    """Frequency in Hz around which each mel filter lies, (n_mels,)."""
    filters = mel_filterbank(spec)
    bins = np.arange(filters.shape[1]) * (spec.sample_rate / spec.n_fft)
    return np.asarray(filters @ bins / filters.sum(axis=1))


def _some(labels: Sequence[str]) -> str:
    more = f" and {len(labels) - 3} more" if len(labels) > 3 else ""
    return ", ".join(labels[:3]) + more
