"""The size of each extra on disk: all packages that it adds to the core, as installed here.

    python benchmarks/extras.py

Run it in an environment with `pip install '.[all]'`. It writes `benchmarks/results/extras.md`.
"""

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.markers import default_environment
from packaging.requirements import Requirement

RESULTS = Path(__file__).parent / "results" / "extras.md"
EXTRAS = ("", "flows", "train", "tables", "plots", "cli", "anndata", "tensorboard", "all")


def required(name: str, extra: str = "") -> list[Requirement]:
    """Return requirements of a distribution that apply to this machine, with one of its extras."""
    requirements = [Requirement(text) for text in distribution(name).requires or ()]
    environment = default_environment() | {"extra": extra}
    return [one for one in requirements if one.marker is None or one.marker.evaluate(environment)]


def brought_by(name: str, extra: str = "") -> set[str]:
    """Return the distributions that are installed because of this one."""
    names: set[str] = set()
    left = required(name, extra)
    while left:
        one = left.pop()
        if one.name.lower() in names:
            continue
        try:
            requirements = required(one.name)
        except PackageNotFoundError:  # not installed on this machine, such as torch's CUDA libraries
            continue
        names.add(one.name.lower())
        left += requirements
        for extra_of_one in one.extras:
            left += required(one.name, extra_of_one)
    return names


def megabytes(names: set[str]) -> float:
    files = (file for name in names for file in distribution(name).files or ())
    return sum(path.stat().st_size for file in files if (path := Path(file.locate())).is_file()) / 1e6


def main() -> None:
    core = brought_by("priory")
    lines = ["# Size of each extra", "", "Made by `benchmarks/extras.py`: packages and megabytes beyond the core.", ""]
    lines += ["| extra | packages | MB | direct requirements |", "|---|---|---|---|"]
    torch = megabytes({"torch"})
    for extra in EXTRAS:
        names = brought_by("priory", extra) - (core if extra else {"torch"})
        direct = sorted({one.name for one in required("priory", extra)} & names)
        title = f"`{extra}`" if extra else f"core, beside torch ({torch:.0f} MB here)"
        lines.append(f"| {title} | {len(names)} | {megabytes(names):.0f} | {', '.join(direct)} |")
    RESULTS.write_text("\n".join(lines) + "\n")
    print(RESULTS.read_text())


if __name__ == "__main__":
    main()
