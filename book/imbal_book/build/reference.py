"""The reference pages, generated while the book is built: the public names of the library, and the command line."""

from __future__ import annotations

import importlib.metadata
import inspect
from typing import Any

import typer

import imbal_core

__all__ = ["command_reference", "library_reference"]

#: First folder or module below `imbal_core` -> the heading of its names, in the order of the page.
_TITLES = {
    "data": "Data sets, class counts and splits",
    "models": "Networks",
    "losses": "Losses",
    "training": "Training",
    "centers": "Category centers",
    "post_hoc": "Corrections of a trained network",
    "corrections": "Corrections as estimators of scikit-learn",
    "metrics": "Scores",
}


def library_reference() -> str:
    """Return the names of `imbal_core` as MyST, under the heading of the room in which each is defined.

    Classes show what they define themselves, without what they inherit.
    """
    rooms: dict[str, list[str]] = {}
    for name in imbal_core.__all__:
        rooms.setdefault(getattr(imbal_core, name).__module__.split(".")[1], []).append(name)
    order = [*_TITLES, *sorted(rooms.keys() - _TITLES.keys())]
    sections = []
    for room in (room for room in order if room in rooms):
        entries = "\n".join(_entry(name, getattr(imbal_core, name)) for name in rooms[room])
        title = _TITLES.get(room, room.replace("_", " ").capitalize())
        sections.append(f"## {title}\n\n```{{eval-rst}}\n.. currentmodule:: imbal_core\n\n{entries}```\n")
    return "\n".join(sections)


def _entry(name: str, found: Any) -> str:
    if not inspect.isclass(found):
        return f".. autofunction:: {name}\n"
    own = [key for key, value in vars(found).items() if key[0] != "_" and inspect.getdoc(value)]
    methods = [key for key in own if getattr(getattr(found, key), "__module__", "") == found.__module__]
    members = f"   :members: {', '.join(methods)}\n" if methods else ""
    return f".. autoclass:: {name}\n{members}"


def command_reference() -> str:
    """Return the help of every command of ``imbal`` as MyST, as the installed program prints it."""
    (program,) = importlib.metadata.entry_points(group="console_scripts", name="imbal")
    return "\n".join(_helps(typer.main.get_command(program.load()), "imbal", None))


def _helps(command: Any, name: str, above: Any) -> list[str]:
    context = typer.Context(command, info_name=name, parent=above, terminal_width=80, max_content_width=80)
    depth = "##" if above is None or above.parent is None else "###"
    found = [f"{depth} {context.command_path}\n\n```text\n{command.get_help(context).strip()}\n```\n"]
    for below, sub in getattr(command, "commands", {}).items():
        found += _helps(sub, below, context)
    return found
