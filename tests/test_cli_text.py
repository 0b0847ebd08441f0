"""Text of the user on the terminal: ids, labels, names of columns and paths are printed literally."""

import ast
import re
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.cluster import KMeans

import priory
from command_line import QUICK, run_cli
from priory._support.messages import visible
from priory.workbench.cli import main
from priory.workbench.cli.terminal import say, say_on_stderr, say_table

SOURCE = Path(priory.__file__).parent / "workbench"
IDS = ["[/x]12", "c1cc[nH]c75", "\x1b]0;title\x07", "a\nb\x9b2J", "[bold]x\u202e:smile:"]  # `score` lists five
LABEL, COLUMN, ID = "kind[/k]", "[/a]$x_1$", "id[i]"
READING = ("--labels", LABEL, "--ids", ID)
CONTROLS = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Make a folder with a table and a run of the table; all names look like markup."""
    folder = tmp_path_factory.mktemp("text") / "we[" / "q]ird"
    folder.mkdir(parents=True)
    x = np.random.default_rng(0).normal(size=(60, 3))
    x[: len(IDS), 0] += 40  # the rows that `score` lists
    frame = pd.DataFrame(x, columns=[COLUMN, "co$t", "[red]"]).assign(**{"\x1b[1mconst[/]": 1.0})
    frame[LABEL] = ["[/x]$" if i % 2 else "\x1b[31mred$" for i in range(60)]
    frame[ID] = [*IDS, *(f"r{i}" for i in range(60 - len(IDS)))]
    frame.to_csv(folder / "t[bold].csv", index=False)
    grid = ("--prior", "gtm", "--grid", "3x3", "--out", folder / "run")
    assert run_cli("fit", folder / "t[bold].csv", *READING, *QUICK, *grid) == 0
    return folder


def commands(folder: Path) -> dict[str, tuple[object, ...]]:
    table, run = folder / "t[bold].csv", folder / "run"
    return {
        "fit": ("fit", table, *READING, *QUICK, "--out", folder / "new[/]"),
        "gtm fit": ("gtm", "fit", table, *READING, "--set", "model.points_per_side=3", "--out", folder / "map[/]"),
        "score": ("score", run, "--samples", 2, "--out", folder / "s[/].csv"),
        "embed": ("embed", run, "--out", folder / "e[/].npz"),
        "map": ("map", run, "--samples", 2, "--out", folder / "m[/].csv", "--predict", LABEL),
        "sample": ("sample", run, "-n", 2, "--out", folder / "x[/].csv"),
        "evaluate": ("evaluate", run, "--samples", 2),
        "report": ("report", run),
        "refit": ("refit", run, "--prior", "standard", "--samples", 2, "--out", folder / "f[/]"),
        "compare": ("compare", table, *READING, "--priors", "gtm", "--seeds", 1, *QUICK, "--out", folder / "c[/]"),
    }


SAID = {
    "fit": ["t[bold]: 60 rows", "('\\x1b[1mconst[/]' = 1)", "new[/]"],
    "gtm fit": ["t[bold], map of 3 x 3 nodes", "map[/]"],
    "score": ["s[/].csv", *map(visible, IDS)],
    "embed": ["e[/].npz"],
    "map": ["m[/].csv", "m[/].png"],
    "sample": ["x[/].csv"],
    "evaluate": ["t[bold].csv: 6 rows"],
    "report": ["run/report.html"],
    "refit": ["t[bold]: 6 rows", "f[/]"],
    "compare": ["c[/]"],
}
SLOW = ("fit", "gtm fit", "refit", "compare")  # each takes seconds


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in SAID])
def test_commands_print_text_of_the_user_literally(name, folder, capsys):
    capsys.readouterr()
    assert run_cli(*commands(folder)[name]) == 0
    captured = capsys.readouterr()
    lines = " ".join(captured.out.replace(str(folder), "HERE").split())
    assert not [expected for expected in SAID[name] if expected not in lines], lines
    assert not CONTROLS.search(captured.out + captured.err)


@pytest.mark.parametrize("text", IDS)
def test_errors_contain_text_of_the_user_literally(text, capsys):
    assert run_cli("check", f"{text}:name") == 2
    errors = capsys.readouterr().err
    assert visible(text.replace("\n", " ")) in errors
    assert not CONTROLS.search(errors)


@pytest.mark.parametrize("text", IDS)
def test_all_functions_that_print_show_markup_and_controls(text, capsys):
    say(text, (text, "bold"))
    say_on_stderr((text, "red"))
    say_table(text, (text, ""), [(text, (text, "dim"))])
    captured = capsys.readouterr()
    assert captured.out.splitlines()[0] == 2 * visible(text)
    assert captured.err == f"{visible(text)}\n"
    assert captured.out.count(visible(text)) == 6
    assert not CONTROLS.search(captured.out + captured.err)


def calls_that_print(file: Path) -> list[str]:
    """Return the calls and imports of a file that write to the terminal."""
    calls = []
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name == "print" or name.endswith((".print", ".echo", ".secho", "stdout.write", "stderr.write")):
                calls.append(name)
        elif isinstance(node, ast.ImportFrom | ast.Import):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            calls += [name for name in names if name.split(".")[0] == "rich"]
    return calls


def test_only_the_terminal_module_prints():
    printing = {str(file.relative_to(SOURCE)) for file in SOURCE.rglob("*.py") if calls_that_print(file)}
    assert printing == {"cli/terminal.py"}


@pytest.mark.filterwarnings("always")  # the suite turns warnings into errors
def test_warnings_are_printed_once_in_one_line_without_source_lines(capsys):
    with main._warnings_in_a_line():
        for _ in range(2):
            np.log(np.zeros(1))
            warnings.warn("two\nlines [/x]\x1b. (Triggered internally at /src/aten/File.cpp:12.)", stacklevel=1)
        KMeans(3, n_init=1).fit(np.zeros((9, 1)))
    assert capsys.readouterr().err.splitlines() == [
        "note: divide by zero encountered in log",
        "note: two lines [/x]\\x1b.",
        "note: Number of distinct clusters (1) found smaller than n_clusters (3). Possibly due to duplicate points in "
        "X.",
    ]
