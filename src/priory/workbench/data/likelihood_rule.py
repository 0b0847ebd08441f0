"""The rule that proposes a likelihood for the values of a data set."""

from __future__ import annotations

from dataclasses import dataclass

from priory.workbench.data.summary import Summary

RULE = """\
The first rule that fits the values decides.
1. Only 0 and 1 (or --binarize): bernoulli.
2. Integers 0..31: categorical. If no image, and stored sparse or under 20 % non-zero: negative-binomial, ambiguous.
3. Integers 0..255, an image or with 255 as the highest value and stored dense: discretized-logistic.
4. Integers from 0 up: negative-binomial. Ambiguous if over half are non-zero, or an image, or 0..255 stored dense.
5. Real values 0..1, an image or 10 % of them exactly 0 or 1: gaussian, ambiguous (gray values? --binarize dynamic).
6. Otherwise: gaussian, standardized columns. Ambiguous if none is negative and most are 0 (normalized counts?).
--likelihood NAME overrides the proposal."""

# Integers up to 31 have at most 32 levels: a softmax over them is cheap, and ordered families gain little.
_MOST_LEVELS = 32
# Pixels and answers on a scale use most of their range; tables of small counts (words, cells) are mostly 0.
_SPARSE_COUNTS = 0.2
# Gray images have many values exactly 0 or 1; a table scaled to [0, 1] has one of each per column.
_SATURATED = 0.1


@dataclass(frozen=True)
class LikelihoodProposal:
    """A likelihood and the reason for it; if the case is ambiguous, `alternatives` are the options to choose from."""

    likelihood: str
    reason: str
    alternatives: tuple[str, ...] = ()

    def describe(self) -> str:
        """Describe the proposal in one line, with the alternatives if the case is ambiguous."""
        text = f"likelihood: {self.likelihood} ({self.reason})"
        return f"{text}; ambiguous: choose with {' or '.join(self.alternatives)}" if self.alternatives else text


def propose_likelihood(summary: Summary) -> LikelihoodProposal:
    """Apply `RULE` to the summary of a data set.

    Example:
        >>> from priory.workbench.data import Summary
        >>> digits = Summary(rows=1797, columns=64, low=0.0, high=16.0, integers=True, binary=False, missing=0,
        ...                  sparse=False, density=0.5, image_shape=(8, 8))
        >>> propose_likelihood(digits).likelihood
        'categorical'
    """
    if summary.binary:
        why = "binarized on request" if summary.dynamic_binarization else "only 0 and 1"
        return LikelihoodProposal("bernoulli", why)
    if summary.integers and summary.low >= 0:
        return _for_integers(summary)
    return _for_reals(summary)


def _for_integers(summary: Summary) -> LikelihoodProposal:
    high, image, sparse = int(summary.high), summary.image_shape is not None, summary.sparse
    span = f"integers {summary.low:.0f}..{high}"
    if high < _MOST_LEVELS:
        if image or not (sparse or summary.density < _SPARSE_COUNTS):
            return LikelihoodProposal("categorical", f"{span}, {high + 1} levels")
        return _ambiguous("negative-binomial", f"{span}, mostly 0: small counts, or classes", "categorical")
    if high <= 255 and (image or (high == 255 and not sparse)):
        return LikelihoodProposal("discretized-logistic", f"{span}, pixels")
    if image:
        return _ambiguous("negative-binomial", f"{span}, images: counts, or intensities", "gaussian")
    if high <= 255 and not sparse:
        return _ambiguous("negative-binomial", f"{span}: counts, or pixels", "discretized-logistic")
    if summary.density > 0.5:
        return _ambiguous("negative-binomial", f"{span}, few are 0: counts, or measurements", "gaussian")
    return LikelihoodProposal("negative-binomial", f"{span}, counts")


def _for_reals(summary: Summary) -> LikelihoodProposal:
    span = f"real values {summary.low:.4g}..{summary.high:.4g}"
    unit = summary.low >= 0 and summary.high <= 1
    if unit and (summary.image_shape is not None or summary.extremes >= _SATURATED):
        reason = f"{span}: gray values that stand for probabilities, or measurements"
        return LikelihoodProposal("gaussian", reason, ("--likelihood gaussian", "--binarize dynamic"))
    if summary.low >= 0 and summary.density < 0.5:
        reason = f"{span}, mostly 0: if these are normalized counts, the raw counts fit better"
        alternatives = ("--likelihood gaussian", "the raw counts (another file, or --layer) with negative-binomial")
        return LikelihoodProposal("gaussian", reason, alternatives)
    return LikelihoodProposal("gaussian", f"{span}, columns are standardized")


def _ambiguous(likelihood: str, reason: str, other: str) -> LikelihoodProposal:
    return LikelihoodProposal(likelihood, reason, (f"--likelihood {likelihood}", f"--likelihood {other}"))
