"""The history of a sign, drawn as a time line from a paper's file."""

from __future__ import annotations

import matplotlib.dates as dates
import pandas as pd

from imbal_book.pictures.arms import METHODS
from imbal_book.pictures.figures import SMALL, Drawing, panels, told

#: Sign of the factor of the entropy -> (height, what it does to the entropy, the arm with that sign).
_LANES = {
    -1: (2, "maximises the entropy,\nas the paper says", "CCE (paper)"),
    0: (1, "plain cross entropy", "CE"),
    1: (0, "minimises the entropy", "CCE (released)"),
}


def sign_timeline(history: pd.DataFrame, versions: pd.DataFrame, *, caption: str = "") -> Drawing:
    """Return when the released code moved the entropy of the wrong classes up, and when down.

    ``history`` has the columns commit, date and until (ISO dates; "HEAD" where a state lasts), factor (of the entropy
    in the loss that results) and effect (in words); ``versions`` of the paper have version and date.
    """
    figure, (ax,) = panels(1, width=9.8, height=3.4)
    states = history.assign(
        start=pd.to_datetime(history["date"]),
        end=pd.to_datetime(history["until"].where(history["until"] != "HEAD")),
    )
    today = states["start"].max() + pd.Timedelta(days=100)
    for state in states.to_dict("records"):
        height, _, arm = _LANES[(state["factor"] > 0) - (state["factor"] < 0)]
        color = METHODS[arm][1]
        end = today if pd.isna(state["end"]) else state["end"]
        ax.plot([state["start"], end], [height] * 2, color=color, linewidth=7, solid_capstyle="butt")
        ax.plot(state["start"], height, marker="o", markersize=9, color=color)
        if pd.isna(state["end"]):
            ax.plot(end, height, marker=">", markersize=12, color=color)
            ax.annotate(
                "HEAD", (end, height), (9, 0), textcoords="offset points", va="center", fontsize=SMALL
            )
        ax.annotate(
            state["commit"], (state["start"], height), (0, 9), textcoords="offset points", fontsize=SMALL,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
        )  # fmt: skip
    venue = ""
    for version in versions.to_dict("records"):
        day = float(dates.date2num(pd.Timestamp(version["date"])))
        ax.axvline(day, color="#4d4d4d", linestyle="--", linewidth=1, zorder=0)
        before, (venue, _, name) = venue, version["version"].partition(" ")
        # days apart in a picture of two years: a venue is named once
        label = f"{venue if venue != before else ''}\n{name}"
        ax.text(day, 2.78, label, ha="center", va="bottom", fontsize=SMALL, color="#4d4d4d")
    ax.set_yticks([lane[0] for lane in _LANES.values()], [lane[1] for lane in _LANES.values()])
    ax.set_ylim(-0.5, 2.7)
    ax.set_xlim(states["start"].min() - pd.Timedelta(days=20), today + pd.Timedelta(days=50))
    ax.xaxis.set_major_locator(dates.MonthLocator(bymonth=(1, 4, 7, 10)))
    ax.xaxis.set_major_formatter(dates.DateFormatter("%b %Y"))
    ax.grid(axis="y", visible=False)
    said = told("From {date} to {until} (commit {commit}): {effect}.", history)
    papers = told("{version} on {date},", versions).removesuffix(",")
    alt = f"Time line of the released code. {said} Versions of the paper: {papers}."
    return Drawing(figure, alt, history, caption)
