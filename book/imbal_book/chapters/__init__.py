"""What every chapter's notebook needs: the records behind it, and the words that say where they come from."""

from __future__ import annotations

import html
import math
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from imbal_book.evidence.claims import VERDICT_BADGES, Verdict
from imbal_book.evidence.papers import Claim
from imbal_book.evidence.rules import load_rules
from imbal_book.grid.batch import run_grid
from imbal_book.run.long_frames import records_frame
from imbal_book.run.record_format import Record
from imbal_book.run.records import RecordStore
from imbal_book.studies import PROFILES, build_grid
from imbal_core._checks.names import unknown_name
from imbal_core.training.prediction import default_device


class Html(str):
    """Text that a notebook shows as HTML."""

    def _repr_html_(self) -> str:
        return str(self)


@dataclass(frozen=True)
class Chapter:
    """The records that a chapter shows, of the profiles given, the largest scale first.

    ``planned`` holds by profile how many runs its grid has, recorded or not.
    """

    study: str
    profiles: tuple[str, ...]
    records: list[Record]
    planned: dict[str, int]

    def frame(self) -> pd.DataFrame:
        """Return one row per record; see `imbal_book.run.long_frames.records_frame`."""
        return records_frame(self.records)

    def head(self) -> Html:
        """Return the chapter's first lines: profile, seeds, hardware, time and date."""
        if not self.records:
            names = ", ".join(self.profiles)
            said = f"<b>Profile</b> {names}: not attempted. {self._command()}"
            return Html(f"<p class='chapter-head'>{said}</p>")
        origin = pd.DataFrame([record.provenance for record in self.records])
        seeds = pd.Series([(r.config["split_seed"], r.config["train_seed"]) for r in self.records])
        done = Counter(record.config["profile"] for record in self.records)
        runs = [
            f"{name} {done[name]:,} of {total:,}" if done[name] else f"{name} not attempted"
            for name, total in self.planned.items()
        ]
        hardware = (origin["device"] + ", " + origin["threads"].map("{} threads".format)).unique()
        parts = {
            "Profile": ", ".join(done),
            "Runs": ", ".join(runs),
            "Seeds": f"up to {seeds.nunique()} pairs of split and training seed",
            "Hardware": ", ".join(hardware),
            "Device time": f"{origin['seconds'].sum() / 3600:.1f} hours",
            "Recorded": _span(origin["date"].str[:10]),
        }
        items = [f"<div><dt>{name}</dt><dd>{html.escape(text)}</dd></div>" for name, text in parts.items()]
        return Html(f'<dl class="chapter-head">{"".join(items)}</dl>')

    def not_run(self) -> Html:
        """Return what stands in place of a figure or table that has no records: the command that trains the runs."""
        return Html(f"<p><i>Not attempted: there is no such record yet.</i> {self._command()}</p>")

    def _command(self) -> str:
        return f"<code>imbal run {self.study} --profile {self.profiles[-1]}</code> trains the runs."

    def source(self, keys: Iterable[str] | None = None) -> str:
        """Return where numbers, of the records with these keys or of all, come from: runs, profile, commit and date."""
        wanted = None if keys is None else set(keys)
        chosen = [record for record in self.records if wanted is None or record.key in wanted]
        if not chosen:
            return "Not attempted."
        profiles = ", ".join(dict.fromkeys(record.config["profile"] for record in chosen))
        commits = sorted({str(record.provenance["git_commit"] or "unknown")[:7] for record in chosen})
        dates = _span(pd.Series([record.provenance["date"][:10] for record in chosen]))
        runs = "1 run" if len(chosen) == 1 else f"{len(chosen)} runs"
        return f"{runs}, profile {profiles}; code at {', '.join(commits)}; {dates}."


def _span(dates: pd.Series) -> str:
    first, last = dates.min(), dates.max()
    return str(first) if first == last else f"{first} to {last}"


def open_chapter(
    study: str, profile: str = "best", *, train: bool = False, store: RecordStore | None = None
) -> Chapter:
    """Return the records that a chapter shows, after training what is missing if so asked.

    Parameters
    ----------
    profile : {"best", "smoke", "laptop", "paper"}, default="best"
        "best": all records of profiles ``paper`` and ``laptop``; the chapter prefers the former.
    train : bool, default=False
        Train the missing runs first; with "best" those of ``paper`` on a GPU, else those of ``laptop``.
    study, store
        Whose records are shown, and where they are.

    Raises
    ------
    ValueError
        When the study or the profile is unknown.
    RuntimeError
        When runs fail; the message tells how many, and how the first one ended.
    """
    if profile not in ("best", *PROFILES):
        raise unknown_name("profile", profile, ("best", *PROFILES))
    store = store or RecordStore()
    profiles = ("paper", "laptop") if profile == "best" else (profile,)
    if train:
        scale = "laptop" if profile == "best" and default_device().type == "cpu" else profiles[0]
        report = run_grid(build_grid(study, scale), store, jobs="auto")
        if report.failed:
            raise RuntimeError(f"{len(report.failed)} runs failed; the first:\n{report.failed[0].tail}")
    records = [record for name in profiles for record in store.read(study, name)]
    planned = {name: len(build_grid(study, name)) for name in profiles}
    return Chapter(study, profiles, records, planned)


def number(
    mean: float, low: float, high: float, *, scale: float = 100, digits: int = 1, sign: bool = False
) -> str:
    """Return a mean with its interval as text, such as ``"+1.2 (0.4 to 2.0)"``; a scale of 100 prints percent."""
    plus = "+" if sign else ""
    if not math.isfinite(high - low):
        return f"{scale * mean:{plus}.{digits}f} (one seed, no interval)"
    return f"{scale * mean:{plus}.{digits}f} ({scale * low:.{digits}f} to {scale * high:.{digits}f})"


def numbers(cells: pd.DataFrame, **options: Any) -> list[str]:
    """Return :func:`number` of the mean, low and high of every row."""
    return [number(*ends, **options) for ends in cells[["mean", "low", "high"]].to_numpy()]


#: How the names of metrics begin that are fractions, whose differences are printed in percentage points.
_FRACTIONS = ("accuracy", "agreement", "confidence", "f1_", "gain_few", "p_true", "recall_", "top_k_share")


def estimate(part: Mapping[Hashable, Any]) -> str:
    """Return the mean and interval of a row of a verdict's parts in words, in the unit of what is compared."""
    ends = [part[name] for name in ("mean", "low", "high")]
    if part["compare"] == "spread":
        mean, low, high = np.exp(ends)
        return f"{mean:.2f} ({low:.2f} to {high:.2f}) times the standard deviation"
    if part["compare"] == "mean" and part["metric"].startswith(_FRACTIONS):
        return f"{number(*ends, sign=True)} points"
    unit = {"sign": "the mean sign of the difference", "rank": "rank correlation"}
    what = unit.get(part["compare"], part["metric"].replace("_", " "))
    return f"{number(*ends, scale=1, digits=2, sign=True)} in {what}"


def table(frame: pd.DataFrame) -> Html:
    """Return a frame as a table that scrolls by itself.

    The index is shown where it has a name or the columns have levels.
    Cells of numbers and short words do not wrap, cells of text do.
    """
    wordy = any(frame[column].astype(str).str.len().max() > 40 for column in frame) if len(frame) else False
    body = frame.to_html(
        index=frame.index.name is not None or frame.columns.nlevels > 1, border=0, justify="unset"
    )
    return Html(f'<div class="table-wrap {"table-text" if wordy else "table-numbers"}">{body}</div>')


def judged_on(verdicts: Iterable[Verdict]) -> str:
    """Return the forms and profiles whose records decided the verdicts, such as "small network, profile laptop".

    Empty where no record did; a verdict from a computation alone counts as none.
    """
    used = [(v.form, v.profile) for v in verdicts if v.profile and v.label != "not attempted"]
    return "; ".join(f"{form}, profile {profile}" for form, profile in dict.fromkeys(used))


def rules_table() -> Html:
    """Return the rules that judge, as they stand in their file: labels, parts, grades."""
    rules = load_rules()
    rows = [("label", label, when) for label, when in rules.labels]
    rows += [("part", side.replace("_", " "), when) for side, when in rules.parts.items()]
    rows += [("grade", entry["grade"], entry["when"]) for entry in rules.content["grades"]]
    rows += [(name, "", str(rules.content[name])) for name in ("unit", "ranks", "averages", "size", "words")]
    shown = pd.DataFrame(rows, columns=["rule", "", "what it says"])
    note = (
        f"<p>Declared on {rules.declared}, before the records that they judge; confidence "
        f"{100 * rules.confidence:g} %, simultaneous over the parts and cells of a claim (Holm).</p>"
    )
    return Html(note + table(shown))


def verdict_table(verdicts: Sequence[Verdict], claims: Mapping[str, Claim]) -> Html:
    """Return the verdicts as a table: claim, form, label with its grade, why, and folded below it the parts.

    The claims of the paper come first, those that are ours below a line that says so.
    """
    rows: list[str] = []
    last = None
    for verdict in sorted(verdicts, key=lambda v: claims[v.claim].ours):
        claim = claims[verdict.claim]
        if claim.ours and not any("ours-line" in row for row in rows):
            rows.append('<tr class="ours-line"><td colspan="4"><b>Ours</b>, not the paper\'s</td></tr>')
        first, last = verdict.claim != last, verdict.claim
        text = f"<b>{claim.id}</b> {html.escape(claim.statement)}" if first else ""
        anchor = f' id="parts-{claim.id.lower()}"' if first else ""
        where = html.escape(verdict.form or "any form")
        if verdict.n:
            where += f"<br><small>profile {verdict.profile}, n = {verdict.n} pairs of {verdict.draws} draws</small>"
        label = f'<span class="verdict verdict-{VERDICT_BADGES[verdict.label]}">{verdict.word}</span>'
        label += f"<br><small>{verdict.grade}</small>" if verdict.grade else ""
        because = html.escape(verdict.explanation) + (_parts(verdict.parts) if verdict.n else "")
        rows.append(f"<tr{anchor}><td>{text}</td><td>{where}</td><td>{label}</td><td>{because}</td></tr>")
    return Html(
        '<div class="table-wrap table-text"><table class="verdicts"><thead><tr><th>Claim</th>'
        "<th>Form</th><th>Verdict</th><th>Because</th></tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _parts(parts: pd.DataFrame) -> str:
    """Return the parts of a verdict as a folded table, margins in the unit of the difference."""
    margin = parts["margin"].where(~parts["metric"].str.startswith(_FRACTIONS), 100 * parts["margin"])
    shown = pd.DataFrame(
        {
            "part": parts["part"],
            "cell": parts["dataset"] + ", " + parts["imbalance"],
            "difference": [estimate(part) if part["pairs"] else "" for part in parts.to_dict("records")],
            "n": parts["pairs"],
            "has to be": parts["side"].str.replace("_", " ") + margin.map(" {:g}".format).replace(" 0", ""),
            "state": parts["state"],
        }
    )
    inner = shown.to_html(index=False, border=0, justify="unset")
    return f"<details><summary>Parts</summary>{inner}</details>"
