"""Adjustment for many cells: max-T over the draws that all of them share (Westfall and Young; Romano and
Wolf)."""
import numpy as np

from .bootstrap import order_quantile


def family_of(estimates):
    """The columns that are compared: those with an error to compare by. Cells on too few documents are left
    out."""
    return np.isfinite(estimates.statistic) & ~estimates.few_documents


def step_down(estimates):
    """p-values adjusted over the family, step-down; NaN outside the family."""
    inside = np.flatnonzero(family_of(estimates))
    adjusted = np.full(len(estimates.value), np.nan)
    if len(inside) == 0:
        return adjusted
    statistic = np.abs(estimates.statistic[inside])
    order = np.argsort(-statistic, kind="stable")
    # Column k becomes the largest |t*| over the hypotheses that are still there in step k.
    largest = np.abs(estimates.studentised[:, inside[order]])
    np.maximum.accumulate(largest[:, ::-1], axis=1, out=largest[:, ::-1])
    reached = (largest >= statistic[order]).sum(0)
    p = np.maximum.accumulate((1 + reached) / (len(largest) + 1))
    adjusted[inside[order]] = p
    return adjusted


def critical(estimates, level):
    """The quantile of the largest |t*| of the family: the factor of simultaneous intervals. NaN without a
    family."""
    inside = family_of(estimates)
    if not inside.any():
        return np.nan
    return float(order_quantile(np.abs(estimates.studentised[:, inside]).max(1), level))


def simultaneous(estimates, level):
    """Intervals that hold for the whole family at once; NaN outside."""
    with np.errstate(invalid="ignore"):
        half = np.where(estimates.error == 0, 0.0, critical(estimates, level) * estimates.error)
    half = np.where(family_of(estimates), half, np.nan)
    return estimates.value - half, estimates.value + half
