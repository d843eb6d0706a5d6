"""Architecture specs as plain data: what is refused, and that JSON keeps them."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq.errors import InputError
from edgeq.nets.spec import ArchitectureSpec

sizes = st.integers(1, 10_000)
specs = st.builds(
    ArchitectureSpec,
    family=st.text(min_size=1),
    widths=st.lists(sizes, min_size=1).map(tuple),
    classes=st.integers(2, 10_000),
    input_shape=st.tuples(sizes, sizes, sizes),
    output=st.sampled_from(["softmax", "sigmoid"]),
)


@given(specs)
def test_json_gives_the_same_spec_back(spec):
    assert ArchitectureSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


def test_other_classes_change_nothing_else():
    spec = ArchitectureSpec("cnn5", (16, 32, 48, 64, 96), 10, (1, 64, 50))
    assert spec.with_classes(527) == ArchitectureSpec("cnn5", (16, 32, 48, 64, 96), 527, (1, 64, 50))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("widths", []),
        ("widths", [0]),
        ("widths", [16.0]),
        ("widths", [True]),
        ("widths", ["16"]),
        ("widths", [1 << 40]),
        ("widths", "16"),
        ("widths", 16),
        ("classes", 1),
        ("classes", -3),
        ("classes", None),
        ("classes", 2.5),
        ("classes", 10**20),
        ("input_shape", [64, 50]),
        ("input_shape", [1, 0, 50]),
        ("input_shape", None),
        ("output", "relu"),
        ("output", None),
        ("family", 3),
    ],
)
def test_a_bad_field_is_refused_by_name(field, value):
    fields = ArchitectureSpec("cnn5", (16,), 10, (1, 64, 50)).to_json()
    with pytest.raises(InputError, match=field):
        ArchitectureSpec.from_json({**fields, field: value})


def test_what_is_too_large_or_too_small_is_told_what_would_do():
    spec = ArchitectureSpec("cnn5", (16,), 10, (1, 64, 50))
    with pytest.raises(InputError, match="100000000000 classes: expected at least 2, below 2,147,483,648"):
        spec.with_classes(10**11)
    with pytest.raises(InputError, match=r"input_shape \(0, 64, 50\): .*, each at least 1"):
        replace(spec, input_shape=(0, 64, 50))


def test_missing_and_unknown_fields_are_named():
    fields = ArchitectureSpec("cnn5", (16,), 10, (1, 64, 50)).to_json()
    del fields["classes"]
    with pytest.raises(InputError, match=r"unknown fields \['depth'\], missing fields \['classes'\]"):
        ArchitectureSpec.from_json({**fields, "depth": 3})


@given(
    st.dictionaries(st.sampled_from(["family", "widths", "classes", "input_shape", "output"]), st.none() | st.text())
)
def test_nonsense_is_an_input_error(fields):
    with pytest.raises(InputError):
        ArchitectureSpec.from_json(fields)
