"""A teacher hears what its student hears, and its mean answer is what the student learns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgeq.audio import frontend
from edgeq.audio.frontend import FrontendSpec, with_derivatives
from edgeq.audio.frontend_torch import Features
from edgeq.errors import InputError
from edgeq.nets import registry
from edgeq.nets.spec import ArchitectureSpec
from edgeq.training import augment
from edgeq.training.config import Distillation, FitConfig
from edgeq.training.features import CorpusMaps, at_speed
from edgeq.training.fit import fit
from edgeq.training.source import InMemory
from edgeq.training.teacher import Lesson, Member, Teacher

pytestmark = pytest.mark.usefixtures("one_thread")

SPEC = FrontendSpec(
    sample_rate=8000, n_fft=256, win_length=256, hop_length=160, n_mels=20, fmin=0.0, fmax=4000.0, floor=1e-6,
    floor_rule="add", mean=(-30.0,), std=(20.0,),
)  # fmt: skip
ELSEWHERE = replace(
    SPEC, sample_rate=16000, n_fft=512, win_length=512, hop_length=200, n_mels=24, fmin=100.0, fmax=6000.0
)
ARCHITECTURE = ArchitectureSpec("cnn5", (4, 4, 4, 4, 8), 2, SPEC.input_shape)
CONFIG = FitConfig(
    epochs=3, batch_size=4, learning_rate=0.01, speeds=(0.8, 1.25), average_decay=0.5, stripe_mels=0, stripe_frames=0
)
LABELS = ("high", "low")


class Heard:
    """A network that notes what it is given; it answers class 0."""

    def __init__(self) -> None:
        self.inputs: list[Tensor] = []

    def __call__(self, features: Tensor) -> Tensor:
        self.inputs.append(features.clone())
        return torch.tensor([[1.0, 0.0]]).expand(len(features), 2)


def member(network: Callable[[Tensor], Tensor] | None = None, **changes: object) -> Member:
    fields = {
        "name": "t", "network": network or Heard(), "labels": LABELS, "output": "softmax", "frontend": SPEC,
        "sha256": "0",
    }  # fmt: skip
    return Member(**{**fields, **changes})  # type: ignore[arg-type]


def clicks(spec: FrontendSpec, clips: int = 6) -> CorpusMaps:
    """Recordings of 2 s of quiet noise in which one tone of 1.5 kHz, of 60 ms, sounds somewhere; as `corpus_maps`."""
    random = np.random.default_rng(0)
    fine = 48_000
    recordings = []
    for start in random.uniform(0.3, 1.7, clips):
        time = np.arange(2 * fine) / fine
        tone = np.sin(2 * np.pi * 1500 * time) * (np.abs(time - start) < 0.03)
        recordings.append((0.3 * tone)[:: fine // spec.sample_rate].astype(np.float32))
    speeds = (1.0, *CONFIG.speeds)
    maps = [tuple(frontend.logmel(at_speed(one, speed, spec), spec) for one in recordings) for speed in speeds]
    return CorpusMaps(speeds, tuple(maps))


def fitted(teacher: Teacher | None, config: FitConfig = CONFIG, output: str = "softmax") -> dict[str, Tensor]:
    torch.manual_seed(0)
    network = registry.build(replace(ARCHITECTURE, output=output))
    source = InMemory(clicks(SPEC), torch.eye(2)[torch.arange(6) % 2], SPEC, config)
    fit(network, source, SPEC, config, 0, output=output, teacher=teacher)
    return network.state_dict()


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


class Noting(nn.Module):
    """A student that notes what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.network = registry.build(ARCHITECTURE)
        self.inputs: list[Tensor] = []

    def forward(self, features: Tensor) -> Tensor:
        if self.training:
            self.inputs.append(features.clone())
        return self.network(features)


@pytest.mark.parametrize("derivatives", ["none", "time"])
def test_with_the_same_log_mel_both_hear_the_same_map(derivatives: str) -> None:
    spec = with_derivatives(replace(SPEC, window_hop_seconds=0.25, gate=-50.0), derivatives)
    teacher, student = Heard(), Noting()
    source = InMemory(clicks(SPEC), torch.eye(2)[torch.arange(6) % 2], SPEC, CONFIG)
    fit(student, source, SPEC, CONFIG, 0, teacher=Teacher((member(teacher, frontend=spec),)))
    assert len(teacher.inputs) == len(student.inputs) + 1, "and one to see whether it takes the crops"
    for heard, own in zip(teacher.inputs[1:], student.inputs, strict=True):
        logmel = own[:, 0] * 20 - 30
        torch.testing.assert_close(heard, Features(spec)(logmel), atol=1e-3, rtol=1e-3)


def test_stripes_mask_the_student_alone() -> None:
    teachers = [Heard(), Heard()]
    fitted(Teacher((member(teachers[0]),)))
    fitted(Teacher((member(teachers[1]),)), replace(CONFIG, stripe_mels=9, stripe_frames=19, epochs=1))
    assert torch.equal(teachers[0].inputs[1], teachers[1].inputs[1])


def lesson(teacher: Member, **changes: object) -> tuple[Lesson, augment.CropBank]:
    config = replace(CONFIG, **changes)  # type: ignore[arg-type]
    bank = augment.crop_banks(clicks(SPEC), SPEC, [SPEC.window_frames], config.crop_depth_db)[0]
    return Lesson(Teacher((teacher,)), SPEC, config, "softmax", 2), bank


def drawn(bank: augment.CropBank, seed: int) -> list[augment.Place]:
    variants = len(bank.powers) - 1
    return augment.places(bank, augment.wishes(torch.arange(6), variants, 0.7, torch.Generator().manual_seed(seed)))


def changes(seed: int, batch: int = 6, **config: object) -> augment.Changes:
    generator = torch.Generator().manual_seed(seed)
    return augment.drawn(replace(CONFIG, **{**QUIET, **config}), batch, SPEC.n_mels, 50, generator)  # type: ignore[arg-type]


QUIET = {"gain_db": 0.0, "filter_db": 0.0, "mix_probability": 0.0}


@pytest.mark.parametrize("seed", range(5))
def test_another_log_mel_is_cropped_at_the_same_second(seed: int) -> None:
    heard = Heard()
    spec = replace(ELSEWHERE, mean=(0.0,), std=(1.0,))
    teaching, bank = lesson(member(heard, frontend=spec, maps=clicks(ELSEWHERE)), **QUIET)
    places = drawn(bank, seed)
    power = augment.crop(bank.powers, places, bank.length)
    teaching.answers(power, places, 0, changes(0))
    (crops,) = heard.inputs[1:]
    assert crops.shape == (6, *ELSEWHERE.input_shape)
    centre = (power.sum(dim=1) * torch.arange(bank.length)).sum(dim=1) / power.sum(dim=(1, 2)) * 0.020
    own = 10 ** (crops[:, 0] / 10)
    own_centre = (own.sum(dim=1) * torch.arange(80)).sum(dim=1) / own.sum(dim=(1, 2)) * 0.0125
    inside = (centre > 0.1) & (centre < 0.9)
    assert inside.sum() >= 2, "crops that hold the whole tone"
    assert (centre - own_centre)[inside].abs().max() < 0.0125


def test_another_log_mel_gets_the_same_gain_filter_and_mixture() -> None:
    heard = Heard()
    spec = replace(ELSEWHERE, mean=(0.0,), std=(1.0,))
    teacher = member(heard, frontend=spec, maps=clicks(ELSEWHERE))
    places = drawn(lesson(teacher)[1], 0)

    def both(seed: int, **louder: float) -> tuple[Tensor, Tensor]:
        """Peak level in dB of student's and teacher's crops, by clip, in the mels around the tone."""
        teaching, bank = lesson(teacher, **{**QUIET, **louder})
        power = augment.crop(bank.powers, places, bank.length)
        made = changes(seed, **louder)
        power, _ = augment.augmented(power, torch.eye(6), torch.linspace(0, 1, SPEC.n_mels), made)
        teaching.answers(power, places, 0, made)
        return 10 * power.amax(dim=(1, 2)).log10(), heard.inputs[-1].amax(dim=(1, 2, 3))

    plain, its_plain = both(1)
    for change in ({"gain_db": 12.0}, {"filter_db": 12.0}, {"gain_db": 6.0, "filter_db": 6.0}):
        louder, its_louder = both(1, **change)
        assert (louder - plain).abs().max() > 1
        # The tone lies in one mel of each, but not in its very middle.
        tolerance = 0.01 if "filter_db" not in change else 1.5
        torch.testing.assert_close(louder - plain, its_louder - its_plain, atol=tolerance, rtol=0)


def test_mixtures_have_the_same_partners_and_shares() -> None:
    seen = Heard()
    spec = replace(ELSEWHERE, mean=(0.0,), std=(1.0,))
    steady = CorpusMaps((1.0,), (tuple(np.full((20, 60), level, np.float32) for level in (0.0, 10.0, 20.0, 30.0)),))
    own = CorpusMaps((1.0,), (tuple(np.full((24, 90), level, np.float32) for level in (5.0, 15.0, 25.0, 35.0)),))
    for i in range(4):  # a mark of each clip: which of its mels is silent
        steady.logmels[0][i][i], own.logmels[0][i][i] = -60.0, -60.0
    config = replace(CONFIG, **{**QUIET, "mix_probability": 1.0}, speeds=(), speed_probability=0.0)
    bank = augment.crop_banks(steady, SPEC, [50], 30.0)[0]
    teaching = Lesson(Teacher((member(seen, frontend=spec, maps=own),)), SPEC, config, "softmax", 2)
    places = augment.places(bank, augment.wishes(torch.arange(4), 0, 0.0, torch.Generator().manual_seed(3)))
    made = changes(3, 4, mix_probability=1.0)
    power, _ = augment.augmented(augment.crop(bank.powers, places, 50), torch.eye(4), torch.linspace(0, 1, 20), made)
    teaching.answers(power, places, 0, made)
    # Relative to the peak, a clip's own silent mel holds what its partner is heard at, and the other way round.
    student = power[:, :4, 0] / power.amax(dim=(1, 2))[:, None]
    taught = 10 ** (seen.inputs[-1][:, 0, :4, 0] / 10)
    torch.testing.assert_close(student, taught / taught.amax(dim=1, keepdim=True), atol=1e-4, rtol=1e-3)
    assert (student < 0.9).any()


def test_of_several_the_mean_of_softened_answers_counts() -> None:
    answers = [torch.tensor([[4.0, 0.0]]), torch.tensor([[0.0, 1.0]])]
    members = tuple(member(lambda x, a=answer: a.expand(len(x), 2)) for answer in answers)
    teaching = Lesson(Teacher(members, Distillation(temperature=2.0)), SPEC, CONFIG, "softmax", 2)
    found = teaching.answers(torch.ones(3, 20, 50), [], 0, changes(0))
    expected = torch.cat([torch.softmax(answer / 2, dim=1) for answer in answers]).mean(dim=0)
    torch.testing.assert_close(found, expected.expand(3, 2))


def test_with_alpha_1_a_teacher_changes_nothing() -> None:
    teacher = Teacher((member(),), Distillation(alpha=1.0))
    assert same(fitted(teacher), fitted(None))
    assert not same(fitted(replace(teacher, how=Distillation())), fitted(None))


@pytest.mark.parametrize("output", ["softmax", "sigmoid"])
def test_with_alpha_0_the_teacher_is_all_that_is_learnt(output: str) -> None:
    teacher = Teacher(
        (member(lambda x: torch.tensor([[-4.0, 4.0]]).expand(len(x), 2), output=output),), Distillation(0.0)
    )
    state = fitted(teacher, replace(CONFIG, epochs=40), output)
    network = registry.build(ARCHITECTURE)
    network.load_state_dict(state)
    logmels = torch.from_numpy(np.stack([one[:, :50] for one in clicks(SPEC).logmels[0]]))
    with torch.no_grad():
        logits = network.eval()(Features(SPEC)(logmels))
    assert (logits.argmax(dim=1) == 1).all(), "whatever the labels say"


def test_the_teacher_itself_learns_nothing() -> None:
    torch.manual_seed(1)
    network = registry.build(ARCHITECTURE)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    network.train()
    fitted(Teacher((member(network),)))
    assert not network.training, "dropout and batch statistics are at rest"
    assert same(before, network.state_dict())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_labels_may_come_in_another_order() -> None:
    other = member(lambda x: torch.tensor([[0.0, 5.0]]).expand(len(x), 2), labels=("low", "high"))
    prepared = Teacher((other,)).prepared(LABELS, "softmax", SPEC, range(6))
    assert prepared.members[0].network(torch.zeros(1, 1, 20, 50)).tolist() == [[5.0, 0.0]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": ("high", "low", "mid")}, "teacher t: 3 labels, the student 2: it has mid besides"),
        ({"labels": ("high", "hum")}, "2 labels, the student 2: it does not know low and has hum besides"),
        ({"output": "sigmoid"}, "a sigmoid output, the student a softmax"),
        (
            {"frontend": replace(SPEC, window_seconds=2.5)},
            "hears windows of 2.5 s, the student of 1 s: 1.5 s apart",
        ),
    ],
)
def test_who_cannot_teach_is_told_why(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Teacher((member(**changes),)).prepared(LABELS, "softmax", SPEC, range(6))


def test_what_does_not_fit_the_run_is_told_before_it_starts() -> None:
    fixed = registry.build(ArchitectureSpec("dcase22", (4, 4, 8, 12), 2, SPEC.input_shape))
    for teacher, config, message in (
        (member(fixed), replace(CONFIG, crop_seconds=(1.0, 2.0)), "teacher t: does not take crops of 2 s"),
        (member(lambda x: torch.zeros(len(x), 3)), CONFIG, r"gives \(1, 3\) for one crop, expected \(1, 2\)"),
        (member(frontend=ELSEWHERE), CONFIG, "hears another log-mel than the student; give its maps"),
    ):
        with pytest.raises(InputError, match=message):
            fitted(Teacher((teacher,)), config)
