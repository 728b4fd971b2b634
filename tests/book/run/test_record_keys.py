"""The keys of the committed records, which later changes must leave as they are."""

from pathlib import Path

import pytest

from imbal_book.run.record_format import parse_record, run_key

RESULTS = Path(__file__).parents[3] / "results"
#: Study, profile and key of the records that the first edition of the book rests on.
FIRST = Path(__file__).with_name("first_keys.txt").read_text().split()


@pytest.mark.parametrize("study", sorted({line.split("/")[0] for line in FIRST}))
def test_key_and_checksum_of_every_committed_record_follow_from_its_content(study):
    paths = sorted((RESULTS / study).rglob("*.json"))
    for path in paths:
        record = parse_record(path.read_bytes())
        message = f"{path.name} has no checksum, or another form: `imbal records add results` mends it"
        assert path.read_text() == record.to_json(), message
        assert run_key(record.run_config(), record.data, record.split) == record.key == path.stem
    found = {path.relative_to(RESULTS).with_suffix("").as_posix() for path in paths}
    assert found >= {line for line in FIRST if line.startswith(f"{study}/")}


def test_there_are_as_many_first_records_as_the_first_edition_had():
    assert len(set(FIRST)) == len(FIRST) == 363
