import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edgeq.batches import MOST, MOST_CELLS, batch_size, batches


@given(mels=st.integers(1, 2000), frames=st.integers(1, 4000))
def test_a_batch_is_bounded_in_number_and_in_size(mels, frames):
    count = batch_size(mels, frames)
    assert 1 <= count <= MOST
    assert count == 1 or count * mels * frames <= MOST_CELLS
    assert count == MOST or (count + 1) * mels * frames > MOST_CELLS


@given(mels=st.integers(1, 2000), frames=st.integers(1, 4000))
def test_where_every_activation_is_kept_fewer_are_taken(mels, frames):
    assert batch_size(mels, frames, keep=True) == max(1, batch_size(mels, frames) // 4)


def test_small_windows_are_taken_many_at_once_and_long_ones_few():
    assert batch_size(40, 51) == 64
    assert batch_size(64, 1001) == 4
    assert batch_size(64, 6001) == 1


@given(count=st.integers(0, 9), mels=st.sampled_from([1, 600]), frames=st.sampled_from([1, 200]))
def test_batches_are_the_windows_in_turn(count, mels, frames):
    features = np.broadcast_to(np.arange(count).reshape(count, 1, 1, 1), (count, 1, mels, frames))
    pieces = list(batches(features))
    assert [int(window[0, 0, 0]) for piece in pieces for window in piece] == list(range(count))
    assert all(0 < len(piece) <= batch_size(mels, frames) for piece in pieces)
