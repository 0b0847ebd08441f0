"""A script that runs commands in processes forked from one with all imports, and can kill them.

Each line of its input is a request and each line of its output an answer, in JSON; see `answer`. The killing is
implemented here, in the process of the command; the package has no code for it.
"""

import importlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

COMMANDS = tuple(
    f"priory.workbench.cli.commands.{name}" for name in ("fit", "evaluate", "refit", "rows", "compare", "gtm")
)
WARM = (
    *COMMANDS,
    "priory.workbench.pictures.vae",
    "priory.workbench.pictures.gtm",
    "priory.training.callbacks",
    "priory.training.module",
)
LIBRARIES = ("lightning.pytorch", "matplotlib.backends.backend_agg", "sklearn.datasets", "safetensors.torch")


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Run `request["arguments"]`; return exit code, output and the writes below the folder `request["watch"]`.

    A request may contain a signal for the process:
        kill_after: seconds after which it is killed with SIGKILL.
        kill_at: [which, how], SIGKILL at a write, given by its number or by its first line in `writes`: "before" it,
            "after" it, or "torn", in the middle.
        interrupt: [module, name, n], SIGINT at the n-th call of this function.
    """
    folder = Path(request["watch"])
    files = {name: folder.with_name(f"{folder.name}.{name}") for name in ("out", "err", "writes")}
    for file in files.values():
        file.write_text("")
    began = time.monotonic()
    process = os.fork()
    if process == 0:
        run_command(request, folder, files)
    if "kill_after" in request:
        time.sleep(request["kill_after"])
        os.kill(process, signal.SIGKILL)
    status = os.waitpid(process, 0)[1]
    output = {name: file.read_text() for name, file in files.items()}
    writes = output.pop("writes").split("\n")[:-1]
    return {"code": os.waitstatus_to_exitcode(status), "seconds": time.monotonic() - began, "writes": writes, **output}


def run_command(request: dict[str, Any], folder: Path, files: dict[str, Path]) -> NoReturn:
    """Run the command in the forked process."""
    for descriptor, path in ((0, os.devnull), (1, files["out"]), (2, files["err"])):
        os.dup2(os.open(path, os.O_RDWR), descriptor)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs of a shell start without it
    from priory.training import callbacks
    from priory.workbench.cli import main as cli

    callbacks.WRITE_EVERY = callbacks.WRITE_SHARE = 0  # write the state after every epoch, also after short ones
    watch_writes(folder, os.open(files["writes"], os.O_WRONLY | os.O_APPEND), *request.get("kill_at", (0, "")))
    if "interrupt" in request:
        interrupt_at(*request["interrupt"])
    sys.argv = ["priory", *request["arguments"]]
    code = 1
    try:
        cli.main()
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def watch_writes(folder: Path, log: int, which: int | str, how: str) -> None:
    """Log every file and folder before it is created in the folder, and kill the process at one of them."""
    count = 0

    def watched(kind: str, write: Callable[[], None], temporary: Path, target: Path) -> None:
        nonlocal count
        if folder not in (target, *target.parents) or (kind == "folder" and target.exists()):
            write()
            return
        count += 1
        line = f"{kind} {target.name}"
        os.write(log, f"{line}\n".encode())
        if which in (count, line) and how == "torn" and kind == "file":
            os.truncate(temporary, temporary.stat().st_size // 2)
        if which in (count, line) and how != "after":
            os.kill(os.getpid(), signal.SIGKILL)
        write()
        if which in (count, line):
            os.kill(os.getpid(), signal.SIGKILL)

    replace, mkdir = os.replace, os.mkdir
    os.replace = lambda a, b: watched("file", lambda: replace(a, b), Path(a), Path(b))
    os.mkdir = lambda a, *mode: watched("folder", lambda: mkdir(a, *mode), Path(a), Path(a))


def interrupt_at(module_name: str, name: str, number: int) -> None:
    """Send SIGINT, as Ctrl-C does, at the n-th call of a function."""
    module: ModuleType = importlib.import_module(module_name)
    function, calls = getattr(module, name), 0

    def interrupted(*arguments: Any, **keywords: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == number:
            os.kill(os.getpid(), signal.SIGINT)
        return function(*arguments, **keywords)

    setattr(module, name, interrupted)


if __name__ == "__main__":
    for needed in (*WARM, *LIBRARIES):
        importlib.import_module(needed)
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)
