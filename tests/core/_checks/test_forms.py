"""Forms: the message names the first part of a value that is not of its form."""

import re

import pytest

from imbal_core._checks.forms import check_form

FORM = {
    "name": str,
    "size": range(1, 100),
    "seconds": float,
    "sha256": re.compile("[0-9a-f]{4}"),
    "package": (str, None),
    "runs": [{"seed": int}],
    "files": {str: [str]},
}
VALUE = {
    "name": "a", "size": 99, "seconds": 3, "sha256": "00ff", "package": None, "runs": [{"seed": 1, "other": 2}],
    "files": {"x.npz": ["one", "two"]}, "more": 7,
}  # fmt: skip


def test_a_value_of_its_form_passes_with_fields_that_the_form_does_not_name():
    check_form(VALUE, FORM)
    check_form(VALUE | {"package": "1.0", "runs": [], "files": {}}, FORM)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": 7}, "name is 7, expected text"),
        ({"size": 100}, "size is 100, expected a whole number from 1 to 99"),
        ({"size": True}, "size is True, expected a whole number"),
        ({"size": 3.0}, "size is 3.0, expected a whole number"),
        ({"seconds": float("nan")}, "seconds is nan, expected a finite number"),
        ({"seconds": 10**400}, "seconds is 1000.*expected a finite number"),
        ({"sha256": "00ff\n"}, "sha256 is '00ff.n', expected text of the form"),
        ({"package": 1}, r"package is 1, expected text or nothing \(null\)"),
        ({"runs": {}}, "runs is {}, expected a list"),
        ({"runs": [{"seed": 0}, {}]}, r"runs\[1\] lacks 'seed'"),
        ({"runs": [{"seed": "0"}]}, r"runs\[0\].seed is '0', expected a whole number"),
        ({"files": {"x.npz": [1]}}, r"files.x.npz\[0\] is 1, expected text"),
        ({"files": None}, "files is None, expected an object"),
    ],
)
def test_the_first_part_that_does_not_fit_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        check_form(VALUE | change, FORM)


def test_an_absent_field_and_a_value_of_another_kind_are_named():
    with pytest.raises(ValueError, match="the top level lacks 'name'"):
        check_form({}, FORM)
    with pytest.raises(ValueError, match="the top level is .1., expected an object"):
        check_form([1], FORM)
