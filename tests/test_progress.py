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


def test_parts_of_one_add_up(capfd):
    with progress("long", 3, patience=0) as advance:
        for _ in range(30):
            advance(0.1)
    assert "3/3" in capfd.readouterr().err


def test_a_failure_ends_it(capfd):
    with pytest.raises(ValueError, match="in the middle"), progress("failing", 3, patience=0):
        raise ValueError("in the middle")
    assert "0/3" in capfd.readouterr().err


@pytest.mark.parametrize(("every", "told"), [(0, ["1/3", "2/3", "3/3"]), (1e9, ["3/3"])])
def test_a_file_gets_a_line_now_and_then_and_one_at_the_end(capfd, monkeypatch, every, told):
    monkeypatch.setattr("edgeq.progress.LOGGED_EVERY", every)
    with progress("training", 3, patience=0) as advance:
        for number in range(3):
            advance(1, f"loss {number}")
    lines = [line.split() for line in capfd.readouterr().err.splitlines()]
    assert [[line[0], next(word for word in line if "/" in word)] for line in lines] == [["training", t] for t in told]
