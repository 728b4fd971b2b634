"""The page on speed: every goal of the benchmarks, its number as it was printed, and what was not measured."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from benchmarks.measured import GOALS, Measured, across, report, reported
from imbal_book.build.speed import speed_table

ROOT = Path(__file__).parents[3]


def kept(folder, **measured):
    made = {"machine": "a processor, 2 cores", "versions": "Python 3.11", "date": "2026-01-02"}
    rows = [
        {
            "name": name,
            **asdict(goal),
            "measured": asdict(measured[name]) | made if name in measured else None,
        }
        for name, goal in GOALS.items()
    ]
    file = folder / "speed.json"
    file.write_text(json.dumps({"goals": rows}), encoding="utf-8")
    return file


def test_what_a_benchmark_prints_is_read_back(capsys):
    found = {"centers-speed": Measured(12.3, 11.0, 13.5), "start-plan": Measured(0.31, 0.31, 0.4)}
    assert report(found) == 1
    printed = capsys.readouterr().out
    assert printed.splitlines()[-2:] == [
        "centers-speed: 12.3 (target at least 12)",
        "start-plan: 0.31 (target at most 0.3)",
    ]
    assert reported("a line of a table\n" + printed) == found
    assert report({"centers-speed": found["centers-speed"]}) == 0


def test_the_median_of_the_rounds_counts():
    assert across([1.0, 2.0, 9.0]).value == 2.0


def test_the_table_has_every_goal_and_no_number_that_was_not_measured(tmp_path):
    file = kept(
        tmp_path, **{"centers-speed": Measured(12.34, 11.0, 13.5), "start-plan": Measured(0.4, 0.4, 0.5)}
    )
    table = speed_table(file)
    rows = {name: next(row for row in table.split("<tr") if f">{name}<" in row) for name in GOALS}
    assert "12.3 times" in rows["centers-speed"] and ">yes<" in rows["centers-speed"]
    assert "0.4 s" in rows["start-plan"] and ">no<" in rows["start-plan"]
    assert all("CUDA not run" in rows[name] for name, goal in GOALS.items() if goal.cuda)
    assert sum("not measured" in row for row in rows.values()) == sum(not g.cuda for g in GOALS.values()) - 2
    assert "Measured on 2026-01-02: a processor, 2 cores; Python 3.11." in table


def test_a_checkout_without_numbers_says_so(tmp_path):
    assert speed_table(tmp_path / "speed.json") == "Nothing is measured yet.\n"


@pytest.mark.parametrize("benchmark", sorted({goal.benchmark for goal in GOALS.values() if goal.benchmark}))
def test_every_benchmark_that_is_named_exists(benchmark):
    assert (ROOT / "benchmarks" / f"{benchmark}.py").is_file()


def test_the_committed_numbers_are_of_the_goals_as_they_are():
    goals = json.loads((ROOT / "benchmarks" / "speed.json").read_text(encoding="utf-8"))["goals"]
    wanted = [{"name": name, **asdict(goal)} for name, goal in GOALS.items()]
    assert [{key: value for key, value in row.items() if key != "measured"} for row in goals] == wanted
