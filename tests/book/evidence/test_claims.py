"""Verdicts: labels, grades, gates and sizes by hand, and the rules that the book declares."""

import dataclasses
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from long_rows import rows

from imbal_book.evidence.claims import VERDICT_BADGES, Verdict, grade_of, judge, settle
from imbal_book.evidence.papers import Cell, Claim, Form, list_papers, load_paper
from imbal_book.evidence.rules import Gate, Part, load_rules, parse_rules
from imbal_book.run.records import RecordStore

ROOT = Path(__file__).parents[3]
RULES = load_rules()
NOISE = np.array([-0.01, 0.02, -0.01, 0.01, -0.01])
LIFT = Part("new beats old", "new", "old", "accuracy", "above")


def claim(**changes):
    forms = {
        "net": Form("resnet32", ["new", "old"], ["cifar10", "cifar100"]),
        "half": Form("resnet32", ["old"], ["cifar10"]),
    }
    own = {"networks": ["resnet32"], "datasets": ["cifar10", "cifar100"]}
    cells = [Cell("cifar10", "step 10"), Cell("cifar100", "step 10")]
    values = dict(
        id="X-1",
        paper="p",
        statement="s",
        quote="q",
        source="here",
        status="read",
        cells=cells,
        forms=forms,
        own=own,
    )
    return Claim(**{**values, **changes})


def rules(*parts, gates=()):
    return dataclasses.replace(RULES, claims={"X-1": list(parts) or [LIFT]}, gates=list(gates))


def frame(new=0.1, dataset="cifar10", **options):
    values = {"new": 0.5 + new + NOISE, "old": 0.5 + 0 * NOISE}
    return rows(values, dataset=dataset, **({"profile": "paper", "model": "resnet32"} | options))


def both(first=0.1, second=0.1, **options):
    return pd.concat([frame(first, **options), frame(second, "cifar100", **options)])


def test_a_claim_holds_where_every_part_holds_in_every_cell_and_fails_where_one_fails():
    assert judge(claim(), both(), form="net", rules=rules()).label == "holds"
    assert judge(claim(), both(0.1, -0.1), form="net", rules=rules()).label == "fails"
    assert judge(claim(), both(0.1, 0.0), form="net", rules=rules()).label == "undecided"
    one = judge(claim(), frame(), form="net", rules=rules())
    assert one.label == "undecided" and "1 not run" in one.explanation and (one.n, one.draws) == (5, 5)
    assert judge(claim(), frame(-0.1), form="net", rules=rules()).label == "fails", (
        "one failing cell is enough"
    )
    nothing = judge(claim(), both().iloc[:0], form="net", rules=rules())
    assert (nothing.label, nothing.n, nothing.grade) == ("not attempted", 0, "")


def test_parts_that_a_network_cannot_have_are_named_and_leave_nothing_to_judge():
    found = judge(claim(), frame(form="half"), form="half", rules=rules())
    assert found.label == "not attempted"
    other = Part("old is itself", "old", "old", "accuracy", "equal", 0.1)
    named = judge(
        claim(), both(), form="net", rules=rules(LIFT, Part("more", "third", "old", "accuracy", "above"))
    )
    assert named.label == "holds" and "cannot have: more" in named.reason and other.margin


@pytest.mark.parametrize(
    ("profile", "model", "dataset", "expected"),
    [
        ("paper", "resnet32", "cifar10", "paper's protocol"),
        ("laptop", "resnet32", "cifar10", "near"),
        ("paper", "resnet34_small", "cifar10", "near"),
        ("laptop", "small_cnn", "cifar10", "stand-in"),
        ("paper", "timm:tf_efficientnet_lite0", "cifar10", "stand-in"),
        ("paper", "resnet32", "scenes6", "stand-in"),
    ],
)
def test_the_grade_follows_from_the_records(profile, model, dataset, expected):
    assert grade_of(claim(), frame(dataset=dataset, profile=profile, model=model)) == expected


def test_reproduced_and_contradicted_are_words_of_the_papers_protocol_alone():
    assert judge(claim(), both(), form="net", rules=rules()).word == "reproduced"
    assert judge(claim(), both(-0.1, -0.1), form="net", rules=rules()).word == "contradicted"
    assert judge(claim(), both(profile="laptop"), form="net", rules=rules()).word == "holds"
    assert set(VERDICT_BADGES) == {label for label, _ in RULES.labels}


def test_a_plain_arm_far_from_the_published_level_leaves_a_claim_undecided():
    gate = Gate("s", "net", "old", "accuracy", 0.7, 0.73, 0.01, "papers", dataset="cifar10")
    found = judge(claim(), both(), form="net", rules=rules(gates=[gate]))
    assert found.label == "undecided" and "at 0.500 on cifar10 step 10" in found.explanation
    near = dataclasses.replace(gate, low=0.5, high=0.5)
    assert judge(claim(), both(), form="net", rules=rules(gates=[near])).label == "holds"
    printed = dataclasses.replace(gate, low="printed", high="printed")
    reported = {("resnet32", "cifar10", "step 10", "old"): 0.9}
    assert (
        judge(claim(reported=reported), both(), form="net", rules=rules(gates=[printed])).label == "undecided"
    )


def test_the_size_stands_beside_a_claim_that_holds_and_does_not_decide():
    assert judge(claim(), both(), form="net", rules=rules()).size == "The paper prints no size."
    for there, verb in ((0.15, "reaches"), (0.4, "falls short of")):
        found = judge(claim(printed={"resnet32": there}), both(), form="net", rules=rules())
        assert found.label == "holds" and verb in found.size and f"{100 * there:+.1f}" in found.size
    reported = {("resnet32", "cifar10", "step 10", r): v for r, v in (("new", 0.9), ("old", 0.8))}
    assert "reaches" in judge(claim(reported=reported), both(), form="net", rules=rules()).size
    assert judge(claim(), both(-0.1, 0.1), form="net", rules=rules()).size == ""
    recall = both().assign(metric="recall_few")
    other = rules(dataclasses.replace(LIFT, metric="recall_few"))
    found = judge(claim(reported=reported), recall, form="net", rules=other)
    assert found.size == "The paper prints no size.", "its accuracies say nothing of recall"


def test_a_claim_without_records_can_only_be_not_attempted():
    nothing = both().iloc[:0]
    for name in list_papers():
        for each in load_paper(name).claims.values():
            for form in each.forms:
                if not isinstance(RULES.claims[each.id], float):
                    found = judge(each, nothing, form=form)
                    assert (found.label, found.grade, found.n, found.size) == ("not attempted", "", 0, "")
            if isinstance(RULES.claims[each.id], float):
                assert settle(each, None).label == "not attempted"


def test_claims_without_a_comparison_and_identities():
    stated = dataclasses.replace(RULES, claims={"X-1": "the abstract names no data set"})
    found = judge(claim(), both(), form="net", rules=stated)
    assert found.label == "not attempted" and "names no data set" in found.explanation
    identity = load_paper("kim_2021").claims["B-5"]
    assert [settle(identity, d).label for d in (None, 1e-9, 1.0)] == ["not attempted", "holds", "fails"]
    with pytest.raises(ValueError, match="at least 0"):
        settle(identity, float("nan"))
    with pytest.raises(ValueError, match="is an identity: settle it"):
        judge(identity, both().assign(form="ResNet-32"), form="ResNet-32")
    with pytest.raises(ValueError, match="is no identity"):
        settle(load_paper("kim_2021").claims["B-1"], 0.0)


def test_what_does_not_fit_is_named():
    with pytest.raises(ValueError, match="lacks the columns value"):
        judge(claim(), both().drop(columns="value"), form="net", rules=rules())
    with pytest.raises(ValueError, match="'smoke', which never enter"):
        judge(claim(), both(profile="smoke"), form="net", rules=rules())
    with pytest.raises(ValueError, match="the profiles laptop, paper"):
        judge(claim(), pd.concat([both(), both(profile="laptop")]), form="net", rules=rules())
    with pytest.raises(ValueError, match="did you mean 'net'"):
        judge(claim(), both(), form="nett", rules=rules())
    with pytest.raises(ValueError, match="unknown claim in the rules 'X-1'"):
        judge(claim(), both(), form="net")


def test_every_claim_of_every_paper_has_its_rule_and_every_rule_its_claim():
    papers = [load_paper(name) for name in list_papers()]
    claims = {claim_id: paper for paper in papers for claim_id in paper.claims}
    assert set(claims) == set(RULES.claims)


def test_no_part_mixes_metrics_and_every_claims_parts_are_commensurable_one_by_one():
    content = RULES.content
    assert parse_rules(content).claims.keys() == RULES.claims.keys()
    for parts in RULES.claims.values():
        if isinstance(parts, list):
            assert len({(p.a, p.b, p.metric, p.versus, p.against_form, p.dataset) for p in parts}) == len(
                parts
            )


def test_the_rules_were_declared_before_the_first_record_that_they_judge():
    """The commit that adds the rules precedes every record of a run whose head starts fairly, and every paper run."""
    added = subprocess.run(
        ["git", "-C", str(ROOT), "log", "--diff-filter=A", "--format=%cI", "--", "book/imbal_book/evidence/rules.yml"],
        capture_output=True, text=True, check=False,
    ).stdout.split()  # fmt: skip
    if not added:
        pytest.skip("no git history here")
    declared = pd.Timestamp(added[-1]).tz_convert("UTC")
    store = RecordStore(ROOT / "results")
    new = [
        r
        for r in store.read()
        if r.config.get("head_start", "own") == "linear" or r.config["profile"] == "paper"
    ]
    assert new and min(pd.Timestamp(record.provenance["date"]) for record in new) >= declared


def test_a_verdict_without_records_has_no_numbers():
    empty = Verdict("X-1", "not attempted")
    assert (empty.n, empty.draws, empty.word, empty.explanation) == (0, 0, "not attempted", "")
