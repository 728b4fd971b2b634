"""Who may import whom: the library never imports the machinery, and each room only what lies below it."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
#: Room of the library -> rooms that it may import.
CORE = {
    "_checks": set(),
    "data": {"_checks"},
    "models": {"_checks", "data.root"},
    "losses": {"_checks"},
    "metrics": {"_checks"},
    "training": {"_checks", "models", "losses", "metrics"},
    "centers": {"_checks"},
    "post_hoc": {"_checks", "losses", "models", "training", "metrics"},
    "corrections": {"_checks", "losses", "post_hoc"},
    "embeddings": {"_checks", "data", "losses", "models", "training", "metrics"},
}
#: Rooms of the machinery, the lowest first; each may import those before it.
BOOK = ("run", "evidence", "pictures", "heads", "studies", "grid", "compare", "chapters", "build")
#: What a room may not import although it lies below.
APART = {"evidence": {"run"}, "pictures": {"run"}}


def imported(path):
    """Return the modules of the project that a file imports anywhere, with the line."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import hides where it leads"
            for alias in node.names:
                yield f"{node.module}.{alias.name}", node.lineno
        elif isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno


def broken(files, allowed):
    """Return every import that a file may not have, as sentences."""
    found = []
    for path in files:
        for name, line in imported(path):
            if name.split(".")[0] in ("imbal_core", "imbal_book") and not allowed(path, name):
                found.append(f"{path.relative_to(ROOT)}:{line} imports {name}")
    return found


def test_the_library_never_imports_the_machinery_and_its_rooms_only_what_they_may():
    package = ROOT / "imbal_core"

    def allowed(path, name):
        room = path.relative_to(package).with_suffix("").parts[0]
        if room == "__init__":
            return not name.startswith("imbal_book")
        parts = name.split(".")
        if parts[0] == "imbal_book" or len(parts) < 2:
            return False
        return parts[1] == room or bool(CORE[room] & {parts[1], ".".join(parts[1:3])})

    assert broken(sorted(package.rglob("*.py")), allowed) == []


def test_every_room_of_the_machinery_imports_only_downwards():
    package = ROOT / "book" / "imbal_book"

    def allowed(path, name):
        room = path.relative_to(package).with_suffix("").parts[0]
        parts = name.split(".")
        if parts[0] == "imbal_core" or room == "__init__" or name == "imbal_book":
            return True
        above = BOOK.index(parts[1]) > BOOK.index(room)
        return not above and parts[1] not in APART.get(room, set())

    assert broken(sorted(package.rglob("*.py")), allowed) == []


def test_no_two_modules_import_each_other_over_any_number_of_steps():
    files = {}
    for path in [*(ROOT / "imbal_core").rglob("*.py"), *(ROOT / "book" / "imbal_book").rglob("*.py")]:
        start = ROOT if path.is_relative_to(ROOT / "imbal_core") else ROOT / "book"
        files[".".join(path.relative_to(start).with_suffix("").parts).removesuffix(".__init__")] = path
    needs = {}
    for module, path in files.items():
        names = {name for name, _ in imported(path)}
        # `from a.b import c` names the module a.b.c where there is one, else something in a.b
        found = {name if name in files else name.rpartition(".")[0] for name in names}
        needs[module] = (found & files.keys()) - {module, "imbal_core"}
    del needs["imbal_core"]  # the front door names every room, lazily, and nobody imports it
    list(TopologicalSorter(needs).static_order())  # a CycleError names the modules of the circle


@pytest.mark.parametrize("package", ["imbal_core", "book/imbal_book"])
def test_every_room_is_known(package):
    rooms = {
        path.relative_to(ROOT / package).with_suffix("").parts[0] for path in (ROOT / package).rglob("*.py")
    }
    assert rooms - {"__init__"} <= set(CORE if package == "imbal_core" else BOOK)


#: Modules and functions that Windows, or macOS, lacks, or where another thing happens under their name.
UNIX_ONLY = {"fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "posix", "syslog"}
UNIX_CALLS = {
    "os": set(
        "fork forkpty getuid geteuid getpgid setsid killpg kill getppid mkfifo uname nice statvfs chown".split()
    ),
    "signal": {"SIGKILL", "SIGHUP", "SIGALRM", "SIGUSR1", "alarm", "pthread_sigmask"},
}
#: Where each may stand: what is done elsewhere is tested there.
GUARDED = {
    "grid/batch.py": {"resource"},
    "grid/claims.py": {"os.kill"},
    "grid/workers.py": {"os.getppid", "signal.SIGKILL"},
}


def unix_only(path):
    """Return the Unix-only names that a file uses; an import inside a function has a case for systems without it."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module] if isinstance(node, ast.ImportFrom) else []
        yield from UNIX_ONLY & set(names)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.attr in UNIX_CALLS.get(node.value.id, ()):
                yield f"{node.value.id}.{node.attr}"


def test_what_only_unix_has_is_used_where_it_is_guarded_and_nowhere_else():
    found = {}
    for package in (ROOT / "imbal_core", ROOT / "book" / "imbal_book"):
        for path in package.rglob("*.py"):
            if names := set(unix_only(path)):
                found[path.relative_to(package).as_posix()] = names
    assert found == GUARDED


def test_no_process_is_forked():
    """A fork copies threads' locks and CUDA's state half done, and Windows has none."""
    for path in [*(ROOT / "imbal_core").rglob("*.py"), *(ROOT / "book" / "imbal_book").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("ProcessPoolExecutor"):
                assert "get_context('spawn')" in ast.unparse(node), f"{path}:{node.lineno}"
            if isinstance(node, ast.Call) and ast.unparse(node.func) in (
                "multiprocessing.Process", "multiprocessing.Pool",
            ):  # fmt: skip
                raise AssertionError(f"{path}:{node.lineno} starts processes as the system does by default")


def test_text_files_are_opened_as_utf8_whatever_the_system_takes_by_default():
    for path in [*(ROOT / "imbal_core").rglob("*.py"), *(ROOT / "book" / "imbal_book").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith((".read_text", ".write_text")):
                assert "encoding=" in ast.unparse(node), f"{path}:{node.lineno}"
