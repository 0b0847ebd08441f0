"""Fixtures that several files use."""

from functools import partial

import pytest

from command_line import must_be_refused, must_succeed


@pytest.fixture
def refused(capsys, tmp_path, monkeypatch):
    """Run a command that must fail and leave every file unchanged; return the line of its error."""
    monkeypatch.chdir(tmp_path)
    return partial(must_be_refused, capsys, tmp_path)


@pytest.fixture
def done(capsys, tmp_path, monkeypatch):
    """Run a command that must succeed with an empty stderr; return its output."""
    monkeypatch.chdir(tmp_path)
    return partial(must_succeed, capsys)
