"""What a log shows of a grid, and of a run that hangs."""

import sys

import pytest
from sample_records import run_config

from imbal_book.grid import progress as module
from imbal_book.grid.progress import Board, run_line

RUN = run_config(imbalance="step-10", epochs=9)
AFTER = {"epoch": 1, "loss": 0.5, "images_per_second": 99.6, "seconds_left": 7300.0, "seconds_of_epoch": 2.0}


@pytest.fixture
def clock(monkeypatch):
    """Return a list whose number is the time; the output is a log's."""
    now = [0.0]
    monkeypatch.setattr(module, "time", type("Time", (), {"monotonic": staticmethod(lambda: now[0])}))
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    return now


def test_a_line_says_how_far_a_run_is():
    assert run_line(RUN, {}) == f"{RUN.label()}: starting"
    assert run_line(RUN, AFTER).endswith(": epoch 1/9, loss 0.500, 100 images/s, 2.0 h left")
    assert run_line(RUN, AFTER | {"seconds_left": 59.4}).endswith("59 s left")


def test_a_log_gets_a_line_a_run_now_and_then_and_one_when_it_ends(clock, capsys):
    with Board(4, 1) as board:
        for second in range(100):
            clock[0] = float(second)
            board.show({RUN: AFTER | {"epoch": 1 + second // 10}})
        board.ended(RUN, "done", 100.4)
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if "epoch" in line] == [
        run_line(RUN, AFTER | {"epoch": epoch}) for epoch in (4, 7, 10)
    ]
    assert lines[-1] == f"2/4 {RUN.label()}: done, 100.4 s"


def test_a_run_that_hangs_is_said_once(clock, capsys):
    with Board(4, 1) as board:
        for second in range(0, 3000, 100):
            clock[0] = float(second)
            board.show({RUN: AFTER})
    (line,) = (line for line in capsys.readouterr().err.splitlines() if "hang" in line)
    assert line == f"{RUN.label()}: no epoch ended for 12 min; does it hang?"


def test_nothing_is_printed_where_nothing_is_shown(clock, capsys):
    with Board(4, 1, shown=False) as board:
        for second in range(0, 100, 10):
            clock[0] = float(second)
            board.show({RUN: AFTER | {"epoch": second}})
        board.ended(RUN, "done", 1.0)
    assert capsys.readouterr() == ("", "")


def test_a_terminal_that_is_gone_ends_no_grid(monkeypatch):
    class Gone:
        def isatty(self):
            return True

        def write(self, _):
            raise OSError(5, "Input/output error")

        def flush(self):
            raise OSError(5, "Input/output error")

    board = Board(4, 1, shown=False)
    board.terminal = board.log = True
    monkeypatch.setattr(sys, "stderr", Gone())
    with board:
        board.show({RUN: AFTER})
        board.ended(RUN, "done", 1.0)
        board.say("a word")
    assert board.done == 2
