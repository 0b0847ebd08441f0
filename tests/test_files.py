"""Files that are complete or absent."""

import errno
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from priory._support.files import remove_leftovers, replacing


def write(path: Path, text: str, **options: bool) -> None:
    with replacing(path, **options) as temporary:
        temporary.write_text(text)


def test_a_failing_block_leaves_the_old_file(tmp_path: Path) -> None:
    write(tmp_path / "a.txt", "old")
    with suppress(KeyboardInterrupt), replacing(tmp_path / "a.txt") as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


def test_only_temporary_files_are_removed(tmp_path: Path) -> None:
    others = [tmp_path / name for name in ("a.txt", ".hidden", ".a-1.txt", "figures/b.png", "figures/.b-x.png")]
    for path in others:
        write(path, "mine")
    for path in (tmp_path / "a.txt", tmp_path / "figures" / "b.png", tmp_path / "noext"):
        with replacing(path) as temporary:
            temporary.write_text("half")
            os.link(temporary, temporary.with_name("keep"))
            name = temporary
        os.rename(name.with_name("keep"), name)  # a killed process leaves such a file
    (tmp_path / "noext").unlink()
    for folder in (tmp_path, tmp_path / "figures", tmp_path / "nowhere"):
        remove_leftovers(folder)
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted(others)


def killed_while_writing(path: Path) -> Path:
    """Kill a process while it writes; return its temporary file."""
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
def test_only_temporary_files_of_the_given_path_are_removed(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    left = killed_while_writing(path)
    others = [left.name.replace(path.stem, "y"), f"{left.name}.csv", left.name[:-1], f"{left.name}0"]
    for other in others:
        (tmp_path / other).write_text("not ours")
    folder = killed_while_writing(path)
    folder.unlink()
    folder.mkdir()
    remove_leftovers(tmp_path, of=path)
    assert {file.name for file in tmp_path.iterdir()} == {folder.name, *others}


def test_two_writers_of_one_file_do_not_interfere(tmp_path: Path) -> None:
    with replacing(tmp_path / "z.csv") as mine:
        mine.write_text("outer")
        write(tmp_path / "z.csv", "inner")
    assert [file.read_text() for file in tmp_path.iterdir()] == ["outer"]


def test_a_durable_file_is_synced_before_it_is_renamed_and_its_folder_afterwards(
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
def test_writing_succeeds_if_the_file_system_cannot_sync_folders(
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
