"""Errors that the user can correct, each described in one line."""

import re

from priory._support.memory import NotEnoughMemoryError, readable
from priory._support.messages import shortened, visible
from priory._support.optional import missing

MENDABLE = (
    ValueError,
    OSError,
    ImportError,
    MemoryError,
    ArithmeticError,
    RuntimeError,
)  # of RuntimeError only some, see below
# Libraries of the extra `cli` that some file imports without naming the extra.
_LIBRARIES = {
    "jinja2",
    "lightning",
    "matplotlib",
    "pandas",
    "plotly",
    "pydantic",
    "rich",
    "safetensors",
    "scipy",
    "sklearn",
    "typer",
}
# Messages of torch, which has no exception class for a lack of memory on the CPU.
_NO_MEMORY = re.compile("DefaultCPUAllocator|Storage size calculation overflowed")


def can_be_mended(error: BaseException) -> bool:
    """Return whether the user can correct the error. Of runtime errors: a failed training and a lack of memory.

    >>> can_be_mended(ValueError("--epochs -1")), can_be_mended(KeyError("a bug"))
    (True, False)
    """
    if not isinstance(error, RuntimeError):
        return isinstance(error, MENDABLE)
    from torch import OutOfMemoryError

    from priory.training import LostProcessError, NonFiniteLossError

    return isinstance(error, (NonFiniteLossError, LostProcessError, OutOfMemoryError)) or bool(
        _NO_MEMORY.search(str(error))
    )


def said_in_a_line(error: BaseException) -> str:
    """Describe an error that the user can correct in one line, with its notes at the end.

    >>> said_in_a_line(ValueError("two\\nlines"))
    'two lines'
    """
    if isinstance(error, OSError) and error.filename is not None and error.strerror is not None:
        text = f"{shortened(str(error.filename), 300)}: {error.strerror}"
    elif isinstance(error, NotEnoughMemoryError):
        text = str(error)
    elif isinstance(error, MemoryError) or _NO_MEMORY.search(str(error)):
        size = re.search(r"allocate (\d+) bytes", str(error))
        detail = f"{readable(int(size[1]))} more" if size else str(error) or type(error).__name__
        text = f"memory: there is not enough ({detail}); use fewer rows or columns, or a smaller model"
    elif isinstance(error, ModuleNotFoundError) and error.__cause__ is None and _root(error) in _LIBRARIES:
        text = missing(_root(error), "cli", "this command")
    else:
        text = " ".join([str(error) or type(error).__name__, *getattr(error, "__notes__", ())])
    return one_line(text)


def _root(error: ModuleNotFoundError) -> str:
    return str(error.name).split(".")[0]


def described_warning(message: str) -> str:
    """Describe a warning of any library in one line, without the place in the source that some warnings name.

    >>> described_warning("The result may differ. (Triggered internally at /src/aten/File.cpp:12.)")
    'The result may differ.'
    """
    return shortened(one_line(re.sub(r"\(?Triggered internally at .*", "", message)), 500)


def one_line(message: str) -> str:
    """Return the message without line breaks and control characters, which names of files and columns may contain."""
    return visible(" ".join(message.split()))
