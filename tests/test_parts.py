"""Row commands for data in parts: results equal those of one file, and finished parts are not repeated."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest

from command_line import must_be_refused, must_succeed, run_cli, write_h5ad
from priory.evaluation import Estimate
from priory.workbench.data.parts import parts_of
from priory.workbench.data.reading import readers
from priory.workbench.jobs import gtm, part_metrics, vae
from priory.workbench.runs.folder import MODEL
from priory.workbench.settings.gtm import GTMRunSettings
from priory.workbench.settings.run import RunSettings

NAMES = ["x0", "x1", "x2"]  # names of the columns of arrays
CUTS = (0, 20, 21, 50, 90)  # parts of 90 rows, one with a single row
ROWS = np.random.default_rng(0).normal(size=(CUTS[-1], 3)).astype(np.float32)
KINDS = np.array(["x", "y", "z"] * 30)
COMMANDS = {
    "embed": (),
    "score": ("--samples", 4),
    "map": ("--samples", 4, "--predict", "kind"),
    "evaluate": ("--samples", 4),
}


def frame(start: int = 0, stop: int = CUTS[-1]) -> pd.DataFrame:
    return pd.DataFrame(ROWS[start:stop], columns=NAMES).assign(kind=KINDS[start:stop])


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Make a folder with a run of a VAE with a map, a run of a GTM, and all rows in one file and in parts."""
    folder = tmp_path_factory.mktemp("parts")
    (folder / "shards").mkdir()
    frame().to_parquet(folder / "all.parquet")
    for number, (start, stop) in enumerate(pairwise(CUTS)):
        frame(start, stop).to_parquet(folder / "shards" / f"part-{number}.parquet")
    data = {"source": str(folder / "all.parquet"), "labels": ("kind",)}
    model = {"prior": "gtm", "points_per_side": 3, "latent_dim": 2, "hidden": (8,)}
    settings = RunSettings.model_validate({"data": data, "model": model, "training": {"epochs": 1}})
    with vae.new_run(settings, folder / "vae") as new:
        vae.train(new.run, new.dataset, new.vae)
    with gtm.new_gtm_run(GTMRunSettings.model_validate({"data": data}), folder / "gtm") as (run, opened):
        fitted = gtm.fit(run, opened.dataset, "cpu")
        run.write_splits(opened.dataset)
        run.write_config()
        fitted.gtm.save(run.path / MODEL)
    return folder


@pytest.fixture
def here(place, tmp_path, monkeypatch):
    """Return the folder with data and runs; the working directory, for outputs, is a separate folder."""
    monkeypatch.chdir(tmp_path)
    return place


def outputs(folder: Path | str) -> pd.DataFrame:
    return pd.concat([pd.read_parquet(file) for file in sorted(Path(folder).glob("*.parquet"))], ignore_index=True)


@pytest.mark.parametrize("kind", ["vae", "gtm"])
@pytest.mark.parametrize("command", ["embed", "score", "map"])
def test_results_of_parts_equal_those_of_one_file(here, command, kind):
    run = (command, here / kind)
    assert run_cli(*run, here / "all.parquet", "--out", "one.parquet", *COMMANDS[command]) == 0
    assert run_cli(*run, here / "shards" / "*.parquet", "--out", "parts", *COMMANDS[command]) == 0
    one, parts = pd.read_parquet("one.parquet"), outputs("parts")
    assert set(one) == set(parts)
    assert sorted(file.name for file in Path("parts").iterdir()) == [
        *(f"part-{i}.parquet" for i in range(4)),
        "parts.json",
    ]
    for name in one.select_dtypes("number"):
        np.testing.assert_allclose(parts[name], one[name], rtol=1e-4, atol=1e-5, err_msg=name)
    texts = [name for name in one if name not in one.select_dtypes("number")]
    pd.testing.assert_frame_equal(parts[texts], one[texts].replace({"split": ["train", "valid", "test"]}, "new"))


@pytest.mark.parametrize("kind", ["vae", "gtm"])
@pytest.mark.parametrize("how", [(), ("--draw",)], ids=["mean", "draw"])
def test_imputation_of_parts_equals_that_of_single_files(here, kind, how):
    gaps = frame()
    gaps.loc[::7, "x1"] = np.nan
    Path("gaps").mkdir()
    for number, (start, stop) in enumerate([(0, 50), (50, 90)]):
        gaps[start:stop].reset_index(drop=True).to_parquet(f"gaps/{number}.parquet")
    run = ("impute", here / kind)
    options = ("--steps", 5, *how)
    assert run_cli(*run, "gaps", "--out", "parts", *options) == 0
    assert run_cli(*run, "gaps/0.parquet", "--out", "first.parquet", *options) == 0
    filled = outputs("parts")
    assert list(filled) == ["id", "kind", *NAMES]
    present = gaps[NAMES].notna().to_numpy()
    np.testing.assert_array_equal(filled[NAMES].to_numpy()[present], ROWS[present])
    assert filled[NAMES].notna().all(axis=None)
    pd.testing.assert_frame_equal(filled[:50], pd.read_parquet("first.parquet"))


def test_a_score_has_the_same_bits_in_any_parts(here):
    run = ("score", here / "vae")
    assert run_cli(*run, here / "all.parquet", "--out", "one.parquet", "--samples", 40) == 0
    assert run_cli(*run, here / "shards", "--out", "parts", "--samples", 40) == 0
    np.testing.assert_array_equal(outputs("parts").log_likelihood, pd.read_parquet("one.parquet").log_likelihood)


@pytest.mark.parametrize("kind", ["vae", "gtm"])
def test_metrics_of_parts_are_the_means_of_all_rows(here, kind):
    assert run_cli("evaluate", here / kind, here / "shards" / "*.parquet", "--out", "parts", *COMMANDS["evaluate"]) == 0
    numbers, metrics = outputs("parts"), json.loads(Path("parts/metrics.json").read_text())
    means = ("nll", "elbo", "distortion", "rate") if kind == "vae" else ("nll",)
    for name in means:
        assert metrics[name]["value"] == pytest.approx(numbers[name].mean(), rel=1e-12)
        assert metrics[name]["se"] == pytest.approx(numbers[name].std() / np.sqrt(len(numbers)), rel=1e-10)
    assert metrics["evaluation"]["rows"] == metrics["evaluation"]["sampled_rows"] == len(ROWS)
    assert 0 < metrics["trustworthiness"]["value"] <= 1


def test_metrics_of_parts_agree_with_those_of_one_file(here, capsys):
    run, samples = ("evaluate", here / "vae"), ("--samples", 500)
    one = json.loads(must_succeed(capsys, *run, here / "all.parquet", "--json", *samples))
    capsys.readouterr()
    assert run_cli(*run, here / "shards", "--json", *samples, "--out", "parts") == 0
    parts = json.loads(capsys.readouterr().out)
    assert parts.keys() == one.keys()
    for name in one.keys() - {"evaluation", "effective_sample_size"}:  # draws of the prior are not pooled
        assert parts[name]["value"] == pytest.approx(one[name]["value"], abs=0.05), name


def test_parts_added_later_give_the_same_sample_as_all_parts_at_once(here, monkeypatch):
    monkeypatch.setattr(part_metrics, "SAMPLED_ROWS", 20)
    line = ("evaluate", here / "vae", "shards", "--samples", 4, "--out")
    Path("shards").mkdir()
    for number, (start, stop) in enumerate(pairwise(CUTS)):
        frame(start, stop).to_parquet(f"shards/part-{number}.parquet")
        assert run_cli(*line, "grown") == 0
    assert run_cli(*line, "at once") == 0
    grown, at_once = (json.loads(Path(out, "metrics.json").read_text()) for out in ("grown", "at once"))
    assert grown == at_once
    assert grown["evaluation"]["sampled_rows"] == 20


@pytest.mark.parametrize("kind", ["vae", "gtm"])
def test_metrics_of_a_sample_have_no_neighborhoods(here, capsys, monkeypatch, kind):
    monkeypatch.setattr(part_metrics, "SAMPLED_ROWS", 40)
    assert run_cli("evaluate", here / kind, here / "shards", "--out", "parts", *COMMANDS["evaluate"]) == 0
    metrics = json.loads(Path("parts/metrics.json").read_text())
    assert 20 < metrics["evaluation"]["sampled_rows"] < len(ROWS)
    assert not {"trustworthiness", "pca_trustworthiness", "continuity"} & metrics.keys()
    assert "topographic_error" in metrics
    assert "note: trustworthiness and continuity are left out" in capsys.readouterr().err


def test_too_few_samples_and_training_rows_give_notes(here, capsys, monkeypatch):
    data = {"source": str(here / "shards"), "labels": ("kind",)}
    settings = RunSettings.model_validate({"data": data, "model": {"hidden": (8,)}, "training": {"epochs": 1}})
    with vae.new_run(settings, Path("own")) as new:
        vae.train(new.run, new.dataset, new.vae)
    monkeypatch.setattr(part_metrics, "median", lambda values: Estimate(1.5, 0.1))
    assert run_cli("evaluate", "own", "--out", "parts", "--samples", 4) == 0
    errors = capsys.readouterr().err
    assert "these metrics cover all rows of the run" in errors
    assert "half of the rows have at most 1.5 effective samples, at 4 samples a row" in errors
    assert "(--samples 32)" in errors


def test_finished_parts_are_not_repeated(here, capsys):
    line = ("score", here / "vae", here / "shards" / "*.parquet", "--out", "parts", "--samples", 4)
    assert "4 of 4 parts, 90 rows" in must_succeed(capsys, *line)
    before = {file: file.stat().st_mtime_ns for file in Path("parts").glob("*.parquet")}
    Path("parts/part-2.parquet").unlink()
    assert "4 of 4 parts (3 were there), 90 rows" in must_succeed(capsys, *line)
    after = {file: file.stat().st_mtime_ns for file in Path("parts").glob("*.parquet")}
    assert [file.name for file in before if before[file] != after[file]] == ["part-2.parquet"]


@pytest.mark.parametrize("fault", ["damaged", "columns", "gaps"])
def test_a_failing_part_does_not_prevent_the_others(here, capsys, fault):
    shards = Path("shards")
    shards.mkdir()
    for number in range(3):
        frame(30 * number, 30 * number + 30).to_parquet(shards / f"part-{number}.parquet")
    assert run_cli("score", here / "vae", "shards", "--out", "whole", "--samples", 4) == 0
    part = frame(30, 60)
    bad = {"columns": part.rename(columns={"x0": "other"}), "gaps": part.replace({"x0": {part.x0[3]: np.nan}})}
    if fault == "damaged":
        (shards / "part-1.parquet").write_bytes(b"PAR1 no more")
    else:
        bad[fault].to_parquet(shards / "part-1.parquet")
    capsys.readouterr()
    assert run_cli("score", here / "vae", "shards", "--out", "parts", "--samples", 4) == 1
    errors = capsys.readouterr().err
    assert "Error: 1 of 3 parts failed\npart-1: part-1.parquet: expected" in errors
    assert sorted(file.name for file in Path("parts").iterdir()) == ["part-0.parquet", "part-2.parquet", "parts.json"]
    part.to_parquet(shards / "part-1.parquet")
    assert "(2 were there)" in must_succeed(capsys, "score", here / "vae", "shards", "--out", "parts", "--samples", 4)
    pd.testing.assert_frame_equal(outputs("parts"), outputs("whole"))


def test_one_cause_of_many_parts_is_printed_once(here, capsys):
    Path("shards").mkdir()
    for number in range(12):
        frame(number, number + 1).rename(columns={"x1": "y"}).to_parquet(f"shards/part-{number:02}.parquet")
    assert run_cli("embed", here / "vae", "shards", "--out", "parts") == 1
    first, cause, cure = capsys.readouterr().err.splitlines()
    assert first == "Error: 12 of 12 parts failed"
    assert re.match(r"part-00, part-01, part-02.*: part-00\.parquet: expected the 3 columns", cause)
    assert "part-11" not in cause
    assert cure.startswith("correct or remove these parts")


def test_parts_whose_row_numbers_change_are_repeated(here, capsys):
    shards = Path("shards")
    shards.mkdir()
    for number in (1, 2):
        frame(30 * number, 30 * number + 30).to_parquet(shards / f"part-{number}.parquet")
    line = ("embed", here / "vae", "shards", "--out", "parts")
    assert run_cli(*line) == 0
    frame(0, 30).to_parquet(shards / "part-0.parquet")  # before the others
    assert "3 of 3 parts, 90 rows" in must_succeed(capsys, *line)
    assert outputs("parts").id.tolist() == [str(number) for number in range(90)]


def test_rows_of_the_run_have_its_split(here):
    Path("data").mkdir()
    for number in range(3):
        frame(30 * number, 30 * number + 30).to_parquet(f"data/part-{number}.parquet")
    settings = GTMRunSettings.model_validate({"data": {"source": "data", "labels": ("kind",)}})
    with gtm.new_gtm_run(settings, Path("own")) as (run, embedded):
        fitted = gtm.fit(run, embedded.dataset, "cpu")
        run.write_splits(embedded.dataset)
        run.write_config()
        fitted.gtm.save(run.path / MODEL)
    assert run_cli("embed", "own", "--out", "one.parquet") == 0
    assert run_cli("embed", "own", "--out", "parts") == 0
    assert run_cli("embed", "own", "data/*.parquet", "--out", "pattern") == 0
    assert run_cli("embed", "own", "data/*.parquet", "--out", "table.parquet") == 0
    split = pd.read_parquet("one.parquet").split.tolist()
    assert set(split) == {"train", "valid", "test"}
    for embedded in (outputs("parts"), outputs("pattern"), pd.read_parquet("table.parquet")):
        assert embedded.split.tolist() == split


def test_empty_parts_are_left_out(here, capsys):
    Path("shards").mkdir()
    frame(0, 0).to_parquet("shards/part-0.parquet")
    frame(0, 9).to_parquet("shards/part-1.parquet")
    assert "1 of 1 parts, 9 rows" in must_succeed(capsys, "embed", here / "vae", "shards", "--out", "parts")


@pytest.mark.parametrize("ending", ["parquet", "csv", "h5ad"])
def test_named_rows_keep_their_names_and_numbered_rows_are_counted_across_parts(here, ending):
    for number in range(2):
        part, path = frame(9 * number, 9 * number + 9), Path(f"part-{number}.{ending}")
        part["cell"] = np.arange(9).astype(str)  # the same names in each part
        if ending == "parquet":
            part.set_index(part.cell.rename(None)).to_parquet(path)
        elif ending == "csv":
            part.to_csv(path)
        else:
            obs = part[["cell"]].set_index(part.cell.rename(None))
            anndata.AnnData(part[NAMES].set_index(obs.index), obs=obs).write_h5ad(path)
    line, options = ("embed", here / "vae", f"*.{ending}"), ("--drop", "kind", "--drop", "cell")
    assert run_cli(*line, "--out", "counted", *(options if ending != "h5ad" else ())) == 0
    assert outputs("counted").id.tolist() == [str(number) for number in range(18)]
    assert run_cli(*line, "--out", "named", "--ids", "cell", *(options[:2] if ending != "h5ad" else ())) == 0
    assert outputs("named").id.tolist() == [str(number) for number in range(9)] * 2


def test_streamed_rows_are_numbered_across_parts(here, monkeypatch):
    monkeypatch.setattr(readers, "available_memory", lambda: 1)
    for command in ("score", "impute"):
        for kind in ("vae", "gtm"):
            options = ("--samples", 2) if command == "score" else ("--steps", 1)
            out = f"{command}-{kind}"
            assert run_cli(command, here / kind, here / "shards", "--out", out, *options) == 0
            assert outputs(out).id.tolist() == [str(number) for number in range(len(ROWS))]


@pytest.mark.parametrize("ending", ["npy", "csv", "h5ad"])
def test_parts_are_of_any_format_that_the_package_reads(here, ending):
    for number, (start, stop) in enumerate([(0, 25), (25, 60)]):
        path, rows = Path(f"part-{number}.{ending}"), ROWS[start:stop]
        if ending == "npy":
            np.save(path, rows)
        elif ending == "csv":
            pd.DataFrame(rows, columns=NAMES).to_csv(path, index=False)
        else:
            write_h5ad(path, rows, NAMES)
    assert run_cli("embed", here / "vae", f"*.{ending}", "--out", "parts") == 0
    embedded = outputs("parts")
    assert embedded.id.tolist() == [str(number) for number in range(60)]


def test_outputs_have_the_requested_ending(here):
    assert run_cli("score", here / "vae", here / "shards", "--out", "parts/*.csv", "--samples", 2) == 0
    files = sorted(Path("parts").glob("*.csv"))
    assert [file.name for file in files] == [f"part-{i}.csv" for i in range(4)]
    assert pd.concat(map(pd.read_csv, files)).id.tolist() == list(range(90))


def test_outputs_keep_the_subfolders_of_the_parts(here):
    for year in (2020, 2021):
        Path(f"data/{year}").mkdir(parents=True)
        frame(0, 9).to_parquet(f"data/{year}/rows.parquet")
    assert [part.name for part in parts_of("data/*/rows.parquet")] == ["2020/rows", "2021/rows"]
    assert run_cli("embed", here / "vae", "data/*/rows.parquet", "--out", "parts") == 0
    assert Path("parts/2021/rows.parquet").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("score", "vae", "all.parquet", "--workers", 2), "--workers 2: expected DATA in parts, such as "),
        (("score", "vae", "shards/*.parquet", "--workers", 2), "--out: expected a folder for one output per part"),
        (
            ("score", "vae", "shards", "--out", "new", "--workers", 2, "--scheduler", "tcp://localhost:1"),
            "--workers, --scheduler: expected one of them",
        ),
        (("score", "vae", "shards", "--out", "shards"), "expected a folder other than the folder of the parts"),
        (
            ("score", "vae", "shards", "--out", "vae"),
            "expected an empty or a new folder, or one with outputs of this job",
        ),
        (
            ("embed", "vae", "shards", "--out", "parts"),
            "expected outputs of `priory embed`, got those of `priory score`",
        ),
        (("score", "gtm", "shards", "--out", "parts", "--samples", 2), "expected outputs of the model of "),
        (("score", "vae", "shards", "--out", "parts"), "expected outputs with num_samples 512, got those with 2"),
        (("score", "vae", "moved/*.parquet", "--out", "parts", "--samples", 2), "got those of other files"),
        (("evaluate", "vae", "shards", "--out", "new", "--replace"), "--replace: expected no DATA and no --out"),
        (("evaluate", "vae", "all.parquet", "--replace"), "--replace: expected no DATA and no --out"),
        (("evaluate", "vae", "all.parquet", "--out", "parts"), "--out parts: expected DATA in parts"),
        (("impute", "vae", "shards", "--out", "filled/*.h5ad"), "a copy of an .h5ad file would keep its missing cells"),
        (("map", "vae", "shards", "--out", "maps", "--figure", "map.png"), "--figure: there is no picture of DATA"),
        (
            ("score", "vae", "shards", "--out", "new", "--scheduler", "nofile"),
            "--scheduler: expected an address such as",
        ),
    ],
)
def test_invalid_requests_for_parts_are_refused(place, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(place)
    if not Path("parts").is_dir():
        assert run_cli("score", "vae", "shards", "--out", "parts", "--samples", 2) == 0
        Path("moved").mkdir()
        frame().to_parquet("moved/part-0.parquet")
    assert message in must_be_refused(capsys, place, *arguments)


def test_an_error_names_the_extra_if_dask_is_missing(here, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    before = must_be_refused(capsys, Path.cwd(), "embed", here / "vae", here / "shards", "--out", "new", "--workers", 2)
    assert "--workers needs distributed, which is not installed" in before
    assert ".[scale]" in before


@pytest.mark.slow  # starts a process
def test_one_process_does_not_import_dask(here):
    script = f"""
import sys
sys.argv = ["priory", "embed", {str(here / "vae")!r}, {str(here / "shards")!r}, "--out", "parts"]
from priory.workbench.cli.main import main
try:
    main()
except SystemExit as end:
    assert not end.code
assert not {{"dask", "distributed"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.slow  # starts processes
def test_a_scheduler_that_does_not_respond_is_refused_within_seconds(here, capsys):
    began = time.monotonic()
    line = ("embed", here / "vae", here / "shards", "--out", "new", "--scheduler", "tcp://127.0.0.1:9")
    assert "none answers there within 5 seconds" in must_be_refused(capsys, Path.cwd(), *line)
    assert time.monotonic() - began < 20


@pytest.mark.slow  # starts processes
def test_a_killed_worker_does_not_change_the_results(here):
    line = ("score", here / "vae", here / "shards" / "*.parquet", "--samples", 50_000)
    assert run_cli(*line, "--out", "alone") == 0
    arguments = [sys.executable, "-m", "priory", *map(str, line), "--out", "shared", "--workers", "2"]
    job = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    written = _kill_the_process_that_writes(Path("shared"), job.pid)
    output, _ = job.communicate(timeout=300)
    assert 0 < written < 4
    assert job.returncode == 0
    assert output.startswith("4 of 4 parts, 90 rows")
    assert sorted(file.name for file in Path("shared").iterdir()) == sorted(
        file.name for file in Path("alone").iterdir()
    )
    for file in Path("alone").glob("*.parquet"):
        assert file.read_bytes() == (Path("shared") / file.name).read_bytes()


@pytest.mark.slow  # starts processes
@pytest.mark.parametrize(
    ("end", "sign", "word", "code"),
    [(os.killpg, signal.SIGINT, "interrupted", 130), (os.kill, signal.SIGTERM, "terminated", 143)],
)
def test_an_interruption_of_workers_prints_one_line(here, end, sign, word, code):
    pytest.importorskip("distributed")
    line = ["-m", "priory", "score", here / "vae", here / "shards", "--samples", "20000", "--workers", "2"]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "start_new_session": True}
    job = subprocess.Popen([sys.executable, *map(str, line), "--out", "parts"], **options)
    for _ in range(30_000):  # five minutes
        if list(Path("parts").glob("*.parquet")):
            break
        time.sleep(0.01)
    end(job.pid, sign)  # a terminal interrupts all processes
    assert (
        job.communicate(timeout=60)[0] == f"{word}; give the same command again: it writes only the missing outputs\n"
    )
    assert job.returncode == code


def _kill_the_process_that_writes(folder: Path, parent: int) -> int:
    """Kill the busiest worker as soon as an output exists; return the number of outputs."""
    for _ in range(30_000):  # five minutes
        if written := len(list(folder.glob("*.parquet"))):
            os.kill(max(_descendants(parent), key=_used), signal.SIGKILL)
            return written
        time.sleep(0.01)
    return 0


def _descendants(parent: int) -> list[int]:
    threads = Path(f"/proc/{parent}/task").glob("*/children")
    children = [int(pid) for thread in threads for pid in thread.read_text().split()]
    return children + [each for child in children for each in _descendants(child)]


def _used(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11])
