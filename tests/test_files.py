"""Files that are whole or not there."""

import errno
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from priory._support import files
from priory._support.files import remove_leftovers, replacing


def write(path: Path, text: str, **options: bool) -> None:
    with replacing(path, **options) as temporary:
        temporary.write_text(text)


def test_a_block_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    write(tmp_path / "a.txt", "old")
    with suppress(KeyboardInterrupt), replacing(tmp_path / "a.txt") as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


def test_leftovers_go_and_nothing_else_does(tmp_path: Path) -> None:
    kept = [tmp_path / name for name in ("a.txt", ".hidden", ".a-1.txt", "figures/b.png", "figures/.b-x.png")]
    for path in kept:
        write(path, "mine")
    for path in (tmp_path / "a.txt", tmp_path / "figures" / "b.png", tmp_path / "noext"):
        with replacing(path) as temporary:
            temporary.write_text("half")
            os.link(temporary, temporary.with_name("keep"))
            name = temporary
        os.rename(name.with_name("keep"), name)  # as a killed process leaves it
    (tmp_path / "noext").unlink()
    for folder in (tmp_path, tmp_path / "figures", tmp_path / "nowhere"):
        remove_leftovers(folder)
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted(kept)


def killed_while_writing(path: Path) -> Path:
    """The temporary file that a killed process leaves."""
    code = """if True:
        import os, sys
        from priory._support.files import replacing
        with replacing(sys.argv[1]) as temporary:
            temporary.write_text("half")
            print(temporary, flush=True)
            os.kill(os.getpid(), 9)
    """
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == -9
    left = Path(done.stdout.strip())
    assert left.read_text() == "half"
    return left


@pytest.mark.parametrize("name", ["z.csv", "z", "z[1].csv.gz", ".z"])
def test_the_next_write_removes_what_a_killed_one_left(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    killed_while_writing(path)
    write(path, "whole")
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_removes_nothing_of_the_living_of_other_files_or_of_other_machines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = killed_while_writing(tmp_path / "z.csv")
    here, name = files._here(), left.name
    kept = [name.replace(here, "00000000"), name.replace(".z-", ".y-"), name.replace(".csv", ".npz"), f"{name}.csv"]
    kept += [f".z-{here}{os.getppid():08x}{'0' * 16}.csv", f".z-{here}{'f' * 24}.csv", f".z-{here}.csv"]
    for other in kept:
        (tmp_path / other).write_text("not ours")
    folder = tmp_path / name.replace(name[-8:], "0000.csv")
    folder.mkdir()
    with replacing(tmp_path / "z.csv") as mine:
        mine.write_text("outer")
        write(tmp_path / "z.csv", "inner")  # another thread of the same process
    assert {path.name for path in tmp_path.iterdir()} == {"z.csv", folder.name, *kept}
    monkeypatch.setattr(os, "kill", lambda *_: pytest.fail("on Windows that ends the process"))
    monkeypatch.setattr(files.os, "name", "nt")
    assert not files._is_dead(1)


def test_a_durable_file_is_on_the_disk_before_its_name_and_its_name_before_the_block_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    sync, replace = os.fsync, os.replace

    def noted_sync(descriptor: int) -> None:
        calls.append("folder" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "file")
        sync(descriptor)

    def noted_replace(a: Path, b: Path) -> None:
        calls.append("replace")
        replace(a, b)

    monkeypatch.setattr(os, "fsync", noted_sync)
    monkeypatch.setattr(os, "replace", noted_replace)
    write(tmp_path / "a.txt", "text")
    assert calls == ["file", "replace", "folder"]
    calls.clear()
    write(tmp_path / "a.txt", "text", durable=False)
    assert calls == ["replace"]


@pytest.mark.parametrize(("number", "passes"), [(errno.EINVAL, True), (errno.EIO, False)])
def test_a_file_system_that_cannot_sync_folders_is_no_reason_to_fail(
    number: int, passes: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync = os.fsync

    def refusing(descriptor: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(number, os.strerror(number))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", refusing)
    if passes:
        write(tmp_path / "a.txt", "text")
    else:
        with pytest.raises(OSError, match="Input/output"):
            write(tmp_path / "a.txt", "text")
    assert (tmp_path / "a.txt").read_text() == "text"
