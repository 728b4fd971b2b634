"""The repository as a whole: set-up files in step, top level as designed, notebooks stripped, one address."""

import ast
import importlib.metadata
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest
import yaml

from imbal_book.build.book import list_notebooks
from imbal_book.build.parameters import declared_parameters

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
COMMON = {"PROFILE": "best", "TRAIN": False, "LIVE": True}
#: Modules of extras, which may be missing here, whose distribution has another name.
UNLIKE = {"imblearn": "imbalanced-learn"}
#: What follows the title of a chapter.
BADGES = """\
[![Open in Colab](../book/_static/badges/colab.svg)]({colab}/blob/main/notebooks/{name}.ipynb)
[![Source on GitHub](../book/_static/badges/source.svg)]({url}/blob/main/notebooks/{name}.ipynb)
[![Download notebook](../book/_static/badges/download.svg)]({url}/raw/main/notebooks/{name}.ipynb)"""


def tracked() -> list[str]:
    """Return the files of the checkout that git tracks or would, without the ignored ones."""
    command = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, capture_output=True, text=True)
    if listing.returncode:
        pytest.skip("no git checkout")
    return [name for name in listing.stdout.splitlines() if (ROOT / name).is_file()]


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def repository_url() -> str:
    return yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["repository"]["url"]


def distribution(requirement: str) -> str:
    return re.split(r"[<>=!~;\[ ]", requirement)[0].lower().replace("_", "-")


def third_party_imports() -> dict[bool, set[str]]:
    """Return the distributions that both packages import: True when a module is loaded, False inside a function."""
    names = importlib.metadata.packages_distributions()
    known = {*sys.stdlib_module_names, "imbal_core", "imbal_book"}
    found: dict[bool, set[str]] = {True: set(), False: set()}
    for path in [*ROOT.glob("imbal_core/**/*.py"), *ROOT.glob("book/imbal_book/**/*.py")]:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
        inside = {id(node) for function in functions for node in ast.walk(function)}
        for node in ast.walk(tree):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module] if isinstance(node, ast.ImportFrom) else []
            for top in {module.split(".")[0] for module in modules} - known:
                found[id(node) not in inside].add(
                    names.get(top, [UNLIKE.get(top, top)])[0].lower().replace("_", "-")
                )
    return found


def test_every_import_is_declared_and_every_requirement_is_imported():
    required = {distribution(item) for item in project()["dependencies"]}
    extras = {distribution(item) for group in project()["optional-dependencies"].values() for item in group}
    imports = third_party_imports()
    assert imports[True] - required == set(), "loaded with a module, so no extra can bring it"
    assert imports[False] - required - extras == set()
    assert required - imports[True] - imports[False] == set(), "declared, and nothing imports it"


def test_the_conda_environment_is_in_step_with_the_package():
    extras = project()["optional-dependencies"]
    wanted = {f"python{project()['requires-python']}", *project()["dependencies"]}
    wanted.update(
        item for name, group in extras.items() if name not in ("cluster", "browser") for item in group
    )
    wanted = {re.sub(r"^torch(?=\W)", "pytorch", item) for item in wanted} | {"pip>=21.3"}
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    names = [item for item in environment["dependencies"] if isinstance(item, str)]
    assert set(names) == wanted
    assert len(names) == len(wanted)
    assert {"pip": ["-e ."]} in environment["dependencies"]


def test_the_conda_environment_names_the_versions_that_are_tested():
    lock = dict(re.findall(r"(?m)^([\w.-]+)==([^\s;\\]+)", (ROOT / "requirements.lock").read_text("utf-8")))
    text = (ROOT / "environment.yml").read_text(encoding="utf-8")
    tested = dict(re.findall(r"(?m)^  - ([\w.-]+?)[<>=]\S*  # tested: (.+)$", text))
    matrix = yaml.safe_load((ROOT / ".github/workflows/tests.yml").read_text("utf-8"))["jobs"]["test"]
    assert tested.pop("python") == ", ".join(matrix["strategy"]["matrix"]["python"])
    tested["torch"] = tested.pop("pytorch")
    assert {name: lock[name.lower().replace("_", "-")] for name in tested} == tested
    listed = [item for item in yaml.safe_load(text)["dependencies"] if isinstance(item, str)]
    named = {re.match(r"[\w.-]+", item)[0] for item in listed}
    assert named - {"python", "pip", "pytorch"} == tested.keys() - {"torch"}


def test_the_lock_names_no_host_and_has_hashes_for_everything():
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert not re.search(r"https?://|--(extra-)?index-url|--find-links", text)
    entries = re.split(r"\n(?=[A-Za-z0-9])", re.sub(r"(?m)^#.*\n", "", text).strip())
    assert len(entries) > 50
    assert [entry.split()[0] for entry in entries if "--hash=sha256:" not in entry] == []
    assert [entry.split()[0] for entry in entries if "==" not in entry.splitlines()[0]] == []


def test_the_lock_holds_every_requirement():
    locked = set(
        re.findall(r"(?m)^([A-Za-z0-9._-]+)==", (ROOT / "requirements.lock").read_text(encoding="utf-8"))
    )
    groups = [project()["dependencies"], *project()["optional-dependencies"].values()]
    wanted = {distribution(item) for group in groups for item in group}
    assert wanted - {name.lower() for name in locked} == set()


def test_the_top_level_is_as_designed():
    designed = {
        *"README.md CONTRIBUTING.md CHANGELOG.md SECURITY.md CITATION.cff LICENSE LICENSE-prose".split()
    }
    designed |= {*"environment.yml _config.yml pyproject.toml requirements.lock Makefile .ci .github".split()}
    designed |= {*"imbal_core book notebooks results tests benchmarks workflow".split()}
    designed |= {".gitignore", ".gitattributes", ".pre-commit-config.yaml"}
    assert {name.split("/")[0] for name in tracked()} - designed == set()


def test_no_tracked_text_holds_a_path_of_a_machine():
    found = []
    pattern = re.compile(r"(?<![\w.$~}])/(root|home/[a-z]+|work|Users/[a-z]+|tmp/[a-z])/")
    for name in tracked():
        if name.startswith("book/_static/mathjax") or name.endswith((".lock", ".png")):
            continue
        for line in (ROOT / name).read_text(encoding="utf-8", errors="replace").splitlines():
            if pattern.search(line) and "re.compile" not in line:
                found.append((name, line.strip()[:80]))
    assert found == []


def test_results_and_build_output_are_not_mixed():
    assert [name for name in tracked() if name.startswith(("_build", ".venv"))] == []


def test_every_page_is_in_the_table_of_contents_and_every_entry_exists():
    toc = yaml.safe_load((ROOT / "book" / "_toc.yml").read_text(encoding="utf-8"))
    entries = [toc["root"], *(chapter["file"] for part in toc["parts"] for chapter in part["chapters"])]
    pages = {f"book/{path.stem}" for path in (ROOT / "book").glob("*.md")}
    pages |= {f"notebooks/{path.stem}" for path in NOTEBOOKS}
    assert sorted(entries) == sorted(pages)
    assert list(list_notebooks(ROOT).values()) == [
        ROOT / f"{entry}.ipynb" for entry in entries if "notebooks/" in entry
    ]


def test_the_repositorys_address_is_the_same_everywhere():
    url = repository_url()
    owner = url.removeprefix("https://github.com/").split("/")[0]
    for name in tracked():
        if name.endswith((".md", ".cff", ".yml", ".toml", ".ipynb", ".py")) and not name.startswith("tests/"):
            text = (ROOT / name).read_text(encoding="utf-8")
            for link in re.findall(
                rf"https://(?:colab\.research\.google\.com/github|github\.com)/{owner}[\w./-]*", text
            ):
                address = link.replace("colab.research.google.com/github", "github.com")
                assert f"{address}/".startswith(f"{url}/"), (name, link)
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))["repository-code"] == url
    assert f"git clone {url}" in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stripped(path):
    for cell in nbformat.read(path, as_version=4).cells:
        assert cell.get("outputs", []) == []
        assert cell.get("execution_count") is None


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_opens_with_title_badges_parameters_and_setup(path):
    cells = nbformat.read(path, as_version=4).cells
    assert cells[0].cell_type == "markdown"
    assert cells[0].source.startswith("# ")
    url = repository_url()
    colab = url.replace("https://github.com", "https://colab.research.google.com/github")
    opening = "\n".join(cell.source for cell in cells[:2])
    assert BADGES.format(url=url, colab=colab, name=path.stem) in opening
    first, second = [cell for cell in cells if cell.cell_type == "code"][:2]
    assert "parameters" in first.metadata.tags
    assert {"colab", "hide-input"} <= set(second.metadata.tags)
    assert f'url = "{url}"' in second.source and f'Path("{url.rpartition("/")[2]}")' in second.source
    neighbour = nbformat.read(NOTEBOOKS[0], as_version=4).cells
    assert second.source == [cell.source for cell in neighbour if cell.cell_type == "code"][1]
    declared = declared_parameters(path)
    assert {name: declared.get(name) for name in COMMON} == COMMON


def test_the_makefile_sets_up_once_and_tells_an_old_python(tmp_path):
    old = tmp_path / "python-old"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "Python 3.9.1" && exit 0\nexit 1\n')
    old.chmod(0o755)
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    make = ["make", "-C", str(tmp_path), f"PYTHON={old}", "test"]
    result = subprocess.run(make, capture_output=True, text=True)
    assert result.returncode != 0
    assert "Python 3.9.1 does not do: this project needs Python 3.11" in result.stdout + result.stderr
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "ready").touch()
    dry = subprocess.run(["make", "-n", *make[1:]], capture_output=True, text=True).stdout
    assert "pip" not in dry
    assert "pytest" in dry


def test_make_lists_its_targets_where_there_is_no_column(tmp_path):
    for tool in ("make", "sh", "grep", "sed", "awk", "echo"):
        if found := shutil.which(tool):
            (tmp_path / tool).symlink_to(found)
    words = ["make", "-C", str(ROOT), "help"]
    told = subprocess.run(words, capture_output=True, text=True, env={"PATH": str(tmp_path)})
    assert told.returncode == 0 and told.stderr == ""
    targets = re.findall(r"(?m)^([a-z]+):.*## (.*)", (ROOT / "Makefile").read_text(encoding="utf-8"))
    listed = dict(re.findall(r"(?m)^  make (\w+)  +(.*)", told.stdout))
    assert len(listed) >= 6 and listed == dict(targets)


WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_pins_its_actions_reads_only_and_calls_what_exists(path):
    text = path.read_text(encoding="utf-8")
    workflow = yaml.safe_load(text)
    assert workflow["permissions"] == {"contents": "read"}
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    assert all(job["timeout-minutes"] <= 180 for job in workflow["jobs"].values())
    for step in steps:
        if "uses" in step:
            assert re.search(rf"{re.escape(step['uses'])} # v\d+\.\d+\.\d+\n", text), step
            assert re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40}", step["uses"])
    called = " ".join(step.get("run", "") for step in steps)
    targets = set(re.findall(r"(?m)^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8")))
    assert set(re.findall(r"\bmake (\w+)", called)) <= targets
    for command in re.findall(r"\.venv/bin/imbal (\w+)", called):
        assert command in {"data", "verify", "run", "plan", "book"}


def without_version(commands: str) -> list[str]:
    """Return the packages that shell commands install, or run, by name and in whatever version there is."""
    installer = r"(?:pip3?|pipx|conda|mamba|apt(?:-get)?|npm|brew|gem|cargo) install|pipx run|uvx|npx"
    found = []
    for words in re.findall(rf"\b(?:{installer})\b([^\n&|;]*)", commands.replace("\\\n", " ")):
        given = re.sub(r"(?<!\S)(-[rce]|--(requirement|constraint|editable|python))[ =]\S+", "", words)
        found += [
            w for w in given.split() if re.match(r"['\"]?[A-Za-z]", w) and not re.search(r"(==|@)\d", w)
        ]
    return found


@pytest.mark.parametrize(
    ("command", "found"),
    [
        ("python -m pip install --quiet pip-audit", ["pip-audit"]),
        ("pip install -r requirements.lock && pip install 'timm>=1.0' ruff==0.8.1", ["'timm>=1.0'"]),
        ("!pip install --no-deps \\\n  -e . mlxtend", ["mlxtend"]),
        ("sudo apt-get install -y chromium; npx serve", ["chromium", "serve"]),
        ("uv pip install --python .venv/bin/python --no-deps --editable .", []),
        ("pipx run pip-audit==2.10.1\nnpx serve@14.2.4", []),
    ],
)
def test_a_package_without_a_version_is_seen(command, found):
    assert without_version(command) == found


def test_nothing_is_installed_by_name_without_a_version():
    texts = {}
    for path in WORKFLOWS:
        jobs = yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"].values()
        texts[path.name] = "\n".join(step.get("run", "") for job in jobs for step in job["steps"])
    for path in NOTEBOOKS:
        texts[path.name] = "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells)
    assert {name: found for name, text in texts.items() if (found := without_version(text))} == {}


def test_every_supported_python_is_tested_and_only_main_is_published():
    tests, book = (
        yaml.safe_load((ROOT / ".github/workflows" / f"{n}.yml").read_text("utf-8"))
        for n in ("tests", "book")
    )
    classified = {c.rpartition(" ")[2] for c in project()["classifiers"] if re.search(r":: 3\.\d+$", c)}
    assert set(tests["jobs"]["test"]["strategy"]["matrix"]["python"]) == classified
    publish = book["jobs"]["publish"]
    assert publish["if"] == "github.ref == 'refs/heads/main' && github.event_name == 'push'"
    assert publish["permissions"] == {"pages": "write", "id-token": "write"}


def test_once_a_week_chapters_records_and_packages_are_looked_at_again():
    weekly = yaml.safe_load((ROOT / ".github/workflows/weekly.yml").read_text("utf-8"))
    triggers = weekly[True]  # `on` is a boolean of YAML
    assert re.fullmatch(r"\d+ \d+ \* \* \d", triggers["schedule"][0]["cron"])
    steps = weekly["jobs"]["again"]["steps"]
    called = [step.get("run", "") for step in steps]
    assert "make book" in called and any(" verify " in command for command in called)
    (audit,) = (step for step in steps if "pip_audit" in step.get("run", ""))
    assert "--require-hashes --disable-pip --requirement requirements.lock" in audit["run"]
    assert audit["if"] == "always()", "also after a chapter that fails"


def test_what_is_promised_on_security_names_how_to_report_and_what_is_tested():
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    for promise in (
        "privately",
        "never run code",
        "never\nwrite outside",
        "escaped",
        "with hashes",
        "read-only tokens",
    ):
        assert promise.replace("\n", " ") in " ".join(text.split()), promise


def test_the_installer_is_pinned_by_hash():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "--require-hashes -r $(VENV)/tools/uv.txt" in makefile
    block = re.search(r"(?ms)^uv==.*?# via", (ROOT / "requirements.lock").read_text(encoding="utf-8"))
    assert block and block[0].count("--hash=sha256:") > 5
