import pytest

from edgeq.progress import progress


def test_quick_work_says_nothing(capfd):
    with progress("quick", 3) as advance:
        for _ in range(3):
            advance(1)
    assert capfd.readouterr() == ("", "")


def test_long_work_says_on_stderr_how_far_it_is(capfd):
    with progress("long", 3, patience=0) as advance:
        advance(2, "loss 0.5")
    out, err = capfd.readouterr()
    assert out == "" and "long" in err and "2/3" in err and "loss 0.5" in err


def test_a_failure_ends_it(capfd):
    with pytest.raises(ValueError, match="in the middle"), progress("failing", 3, patience=0):
        raise ValueError("in the middle")
    assert "0/3" in capfd.readouterr().err
