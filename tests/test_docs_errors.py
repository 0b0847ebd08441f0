"""The page of errors lists messages that the commands print."""

import re
from pathlib import Path

import numpy as np
import pytest

from command_line import QUICK, run_cli

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "errors.md"
COMMANDS = {  # by the message that each of them provokes
    "unknown prior": "fit digits --prior vampp",
    "there is no option": "fit digits --componentz 3",
    "there is no such setting": "fit digits --set model.hiden=[8]",
    "belongs to the priors": "fit digits --as-published",
    "expected an embedded data set (digits) or an existing file": "fit tabel.csv",
    "expected a file whose name ends in": "fit table.pkl",
    "expected numbers, got other values": "fit text.csv",
    "expected a finite number in every cell": "fit gaps.csv",
    "one a column, got": "fit ragged.csv",
    "to make an 80/10/10 split": "fit short.csv",
    "which it does not have": "fit table.csv --labels kind",
    "that the model was trained on": "score run short.csv",
    "give such data, or train with another --likelihood": "fit table.csv --likelihood bernoulli",
    "the number of training rows, because pseudo-inputs start as rows": "fit table.csv --prior vamp --components 500",
    "expected a run whose prior has a grid": "map run",
    "expected a run folder with config.json": "evaluate nothing",
    "expected an empty or a new folder": "fit table.csv --out run",
    "was begun with other values of": "fit --resume --out run --latent-dim 3",
    "training stopped at epoch": "fit table.csv --learning-rate 1e6 --epochs 30 --out diverged",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a run and with files that have a fault each."""
    folder = tmp_path_factory.mktemp("errors")
    table = np.random.default_rng(0).normal(size=(40, 3))
    np.savetxt(folder / "table.csv", table, delimiter=",", header="a,b,c", comments="")
    (folder / "table.pkl").write_bytes(b"")
    (folder / "text.csv").write_text("a,b\n" + "1,x\n2,y\n" * 20)
    (folder / "gaps.csv").write_text("a,b\n" + "1,\n2,3\n" * 20)
    (folder / "ragged.csv").write_text("a,b\n1,2\n3\n")
    (folder / "short.csv").write_text("a,b\n1,2\n3,4\n")
    assert run_cli("fit", folder / "table.csv", *QUICK, "--out", folder / "run") == 0
    return folder


@pytest.mark.parametrize("message", COMMANDS)
def test_a_command_prints_the_message(
    message: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    assert run_cli(*COMMANDS[message].split()) != 0
    assert message in " ".join(capsys.readouterr().err.split())


def test_the_page_lists_exactly_these_messages() -> None:
    table = PAGE.read_text().partition("| message contains |")[2]
    assert re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE) == list(COMMANDS)
