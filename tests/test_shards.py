"""Patterns of files."""

import re

import pytest

from priory.workbench.data.shards import is_pattern, same_files, shards_of


def test_files_of_a_pattern_are_sorted_by_name(tmp_path):
    for name in ("b.parquet", "a.parquet", "c.csv"):
        (tmp_path / name).touch()
    assert [path.name for path in shards_of(tmp_path / "*.parquet")] == ["a.parquet", "b.parquet"]
    assert [path.name for path in shards_of(str(tmp_path / "[c]*"))] == ["c.csv"]
    assert [path.name for path in shards_of(tmp_path)] == ["a.parquet", "b.parquet"]
    assert shards_of(tmp_path / "c.csv") == [tmp_path / "c.csv"]


def test_an_existing_file_with_a_bracket_in_its_name_is_not_a_pattern(tmp_path):
    path = tmp_path / "rows[1].csv"
    path.touch()
    assert not is_pattern(path)
    assert shards_of(path) == [path]


@pytest.mark.parametrize(
    ("pattern", "error", "message"),
    [
        ("*.h5ad", FileNotFoundError, "expected a pattern that matches at least one file, got "),
        ("*", ValueError, "expected files of one format, got the endings .csv, .npy"),
    ],
)
def test_patterns_without_files_or_with_several_formats_are_refused(tmp_path, pattern, error, message):
    for name in ("a.csv", "b.npy"):
        (tmp_path / name).touch()
    with pytest.raises(error, match=re.escape(message)):
        shards_of(tmp_path / pattern)


def test_patterns_of_the_same_files_are_recognized(tmp_path):
    for name in ("a.parquet", "b.parquet"):
        (tmp_path / name).touch()
    names = (tmp_path, tmp_path / "*.parquet", f"{tmp_path}/[ab]*", tmp_path / ".." / tmp_path.name / "**/*.parquet")
    assert all(same_files(name, other) for name in names for other in names)
    assert same_files("digits", "digits")
    assert not any(same_files(tmp_path, other) for other in (tmp_path / "a*", "digits", tmp_path / "gone*"))
