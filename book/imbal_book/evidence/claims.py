"""Verdicts on a paper's claims: the label follows from the parts, the grade from the records."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, field

import pandas as pd

from imbal_book.evidence.judgement import COLUMNS, gate_reason, judge_parts, label_of
from imbal_book.evidence.papers import Claim
from imbal_book.evidence.rules import Part, Rules, load_rules
from imbal_core._checks.names import unknown_name

GRADES = ("paper's protocol", "near", "stand-in")
#: Every label, and the colour of its badge in sphinx-design's words.
VERDICT_BADGES = {"holds": "success", "fails": "danger", "undecided": "warning", "not attempted": "secondary"}
_AT_THE_PROTOCOL = {"holds": "reproduced", "fails": "contradicted"}
_COLUMNS = "profile form model dataset imbalance split_seed train_seed readout metric value".split()


@dataclass(frozen=True)
class Verdict:
    """What the records say about a claim, given by its id, in one form.

    ``label`` is a key of `VERDICT_BADGES`, ``grade`` one of `GRADES` or "" without records; profile, form and
    ``models``, the networks, are those of the records. ``reason`` is what the parts do not say: a gate that was not
    passed, why there is no part. ``size`` tells of a claim that holds how its size compares with what the paper prints.
    ``parts`` has one row per part and cell, see `imbal_book.evidence.judgement.COLUMNS`.
    """

    claim: str
    label: str
    grade: str = ""
    profile: str | None = None
    form: str | None = None
    reason: str = ""
    size: str = ""
    parts: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(COLUMNS)))
    models: tuple[str, ...] = ()

    @property
    def word(self) -> str:
        """The label; at the paper's protocol, and there alone, "reproduced" for holds and "contradicted" for fails."""
        return _AT_THE_PROTOCOL.get(self.label, self.label) if self.grade == GRADES[0] else self.label

    @property
    def n(self) -> int:
        """Pairs of the cell that has the fewest of those that were run; 0 without any."""
        return int(self.parts.loc[self.parts["pairs"] > 0, "pairs"].min()) if self.parts["pairs"].any() else 0

    @property
    def draws(self) -> int:
        """Draws of the cell that has the fewest of those that were run; 0 without any."""
        return int(self.parts.loc[self.parts["pairs"] > 0, "draws"].min()) if self.n else 0

    @property
    def explanation(self) -> str:
        """The states of the parts in one sentence, then reason and size."""
        counts = self.parts["state"].value_counts()
        found = [
            f"{counts[state]} {state}" for state in ("holds", "fails", "open", "not run") if state in counts
        ]
        parts = [f"Of {len(self.parts)} parts by cell: {', '.join(found)}."] if self.n else []
        failing = self.parts.loc[self.parts["state"] == "fails", "part"].unique()
        parts += [f"What fails: {'; '.join(failing)}."] if len(failing) else []
        return " ".join([*parts, self.reason, self.size]).strip()


def judge(claim: Claim, frame: pd.DataFrame, *, form: str, rules: Rules | None = None) -> Verdict:
    """Return the verdict on a claim in one form, by the rules of the book unless others are given.

    ``frame`` is long and of one profile. Other forms may stand in it beside the one that is judged, a key of
    ``claim.forms``: a part can be against them.

    Raises
    ------
    ValueError
        If a column is missing, a smoke record is given, several profiles are, the form is unknown, or the claim is an
        identity or has no rule.
    """
    rules = rules or load_rules()
    _check(claim, frame, form, rules)
    parts = rules.claims[claim.id]
    if isinstance(parts, str):
        return Verdict(claim.id, "not attempted", form=form, reason=f"Not stated as a comparison: {parts}.")
    if isinstance(parts, float):
        raise ValueError(f"claim {claim.id!r} is an identity: settle it with the deviation of a computation")
    can = claim.forms[form]
    chosen = [part for part in parts if {part.a, part.b} <= set(can.readouts)]
    cells = [(cell.dataset, cell.imbalance) for cell in claim.cells if can.has(cell)]
    table = judge_parts(chosen, cells, frame, form, rules)
    label, reason = label_of(table["state"].tolist()), ""
    if label == "not attempted":
        reason = f"No record of {form} holds its cells."
        return Verdict(claim.id, label, form=form, parts=table, reason=reason)
    own = frame[(frame["form"] == form) & frame["dataset"].isin(table.loc[table["pairs"] > 0, "dataset"])]
    for gate in rules.gates:
        place = functools.partial(_printed, claim, form, gate.readout)
        if gate.form == form and not reason:
            reason = gate_reason(gate, frame, place)
    label = "undecided" if reason else label
    if missing := [part.part for part in parts if part not in chosen]:
        reason = f"{reason} This network cannot have: {'; '.join(missing)}.".strip()
    size = _size(claim, chosen[0], table, form) if label == "holds" else ""
    profile = str(frame["profile"].iloc[0])
    models = tuple(sorted(set(own["model"])))
    return Verdict(claim.id, label, grade_of(claim, own), profile, form, reason, size, table, models)


def _printed(claim: Claim, form: str, readout: str, dataset: str, imbalance: str) -> float | None:
    """Return the level that the paper prints for a readout of the network beside this form; None without one."""
    return claim.reported.get((claim.forms[form].network, dataset, imbalance, readout))


def settle(claim: Claim, deviation: float | None) -> Verdict:
    """Return the verdict on an identity from the largest deviation that a computation found; None if it was not run."""
    allowed = load_rules().claims[claim.id]
    if not isinstance(allowed, float):
        raise ValueError(f"claim {claim.id!r} is no identity: judge it by records")
    if deviation is None:
        return Verdict(claim.id, "not attempted", reason="The computation that settles it was not run.")
    if not deviation >= 0:
        raise ValueError(f"deviation is {deviation}, expected a number of at least 0")
    reason = (
        f"In a computation the two sides differ by at most {deviation:.1e}; rounding explains {allowed:.0e}."
    )
    return Verdict(claim.id, "holds" if deviation <= allowed else "fails", reason=reason)


def grade_of(claim: Claim, own: pd.DataFrame) -> str:
    """Return how near the rows that are judged come to the protocol of the claim's paper, one of `GRADES`."""
    models, datasets = set(own["model"]), set(own["dataset"])
    networks = set(claim.own.get("networks", ()))
    if not datasets <= set(claim.own.get("datasets", ())):
        return GRADES[2]
    if set(own["profile"]) == {"paper"} and models <= networks:
        return GRADES[0]
    families = {_family(model) for model in networks}
    return GRADES[1] if {_family(model) for model in models} <= families else GRADES[2]


def _family(model: str) -> str:
    """Return the family of a network by its name: "resnet" of "resnet34_small"."""
    bare = model.removeprefix("timm:").removeprefix("tf_")
    return bare if bare in ("all_cnn", "small_cnn") else bare.split("_")[0].rstrip("0123456789")


def printed_gain(claim: Claim, part: Part, form: str, dataset: str, imbalance: str) -> float | None:
    """Return the gain that the paper prints for the first part of a claim in a cell, a fraction; None without one.

    The cells that papers print are accuracies, so a part in another metric has none.
    """
    if (gain := claim.printed.get(claim.forms[form].network)) is not None:
        return gain
    if (part.metric, part.compare, part.versus, part.against_form) != ("accuracy", "mean", None, None):
        return None
    a, b = (_printed(claim, form, readout, dataset, imbalance) for readout in (part.a, part.b))
    return None if a is None or b is None else a - b


def _size(claim: Claim, first: Part, table: pd.DataFrame, form: str) -> str:
    """Return how the mean of the first part compares with what the paper prints in the same cells."""
    rows = table[(table["part"] == first.part) & (table["pairs"] > 0)]
    cells = rows[["mean", "dataset", "imbalance"]].itertuples(index=False)
    pairs = [(mean, printed_gain(claim, first, form, *cell)) for mean, *cell in cells]
    both = [(mean, there) for mean, there in pairs if there is not None]
    if not both:
        return "The paper prints no size."
    here, there = (math.fsum(column) / len(both) for column in zip(*both, strict=True))
    verb = "reaches" if abs(here) >= abs(there) / 2 else "falls short of"
    return f"The size, {100 * here:+.1f} points, {verb} half of what the paper prints, {100 * there:+.1f}."


def _check(claim: Claim, frame: pd.DataFrame, form: str, rules: Rules) -> None:
    missing = [name for name in _COLUMNS if name not in frame.columns]
    if missing:
        raise ValueError(f"the frame lacks the columns {', '.join(missing)}; expected {', '.join(_COLUMNS)}")
    profiles = sorted(frame["profile"].unique())
    if "smoke" in profiles:
        raise ValueError("the frame holds records of profile 'smoke', which never enter a verdict: drop them")
    if len(profiles) > 1:
        raise ValueError(f"the frame holds the profiles {', '.join(profiles)}: give one of them")
    if form not in claim.forms:
        raise unknown_name("form", form, claim.forms)
    if claim.id not in rules.claims:
        raise unknown_name("claim in the rules", claim.id, rules.claims)
