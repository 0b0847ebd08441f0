"""Fixtures of more than one file."""

from functools import partial

import pytest

from command_line import must_be_refused, must_succeed


@pytest.fixture
def refused(capsys, tmp_path, monkeypatch):
    """Run a command that must be refused and must leave every file as it was; gives the line it said."""
    monkeypatch.chdir(tmp_path)
    return partial(must_be_refused, capsys, tmp_path)


@pytest.fixture
def done(capsys, tmp_path, monkeypatch):
    """Run a command that must succeed without a word on stderr; gives what it printed."""
    monkeypatch.chdir(tmp_path)
    return partial(must_succeed, capsys)
