"""The picture of the rounds: each tenant's held-out accuracy by version."""

from collections.abc import Sequence
from math import nan
from pathlib import Path
from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from deploy.demo.report import Scores, mean_accuracy
from deploy.demo.results import Results

# Okabe and Ito's colours, which people with any colour vision tell apart.
COLOURS: Final = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9")
MARKERS: Final = ("o", "s", "^", "D", "v", "P")


def draw(results: Results, tenants: Sequence[str], file: Path) -> None:
    """Draw accuracy by version: a line a tenant, and a bold one for their mean."""
    columns = [results.base_scores, *(version.scores for version in results.versions)]
    figure = Figure(figsize=(max(8, 2 + 0.9 * len(columns)), 4.8), layout="constrained")
    axes = figure.add_subplot()
    _draw_tenants(axes, columns, tenants)
    _draw_mean(axes, columns)
    axes.set_xticks(range(len(columns)), _column_labels(results, columns))
    axes.set_xlabel("base model without a prefix, start prefix, and each version")
    axes.set_ylabel("accuracy on held-out rows (%)")
    axes.set_title(f"{results.base_model['name']}: one shared prefix, {len(tenants)} tenants")
    axes.grid(axis="y", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    figure.savefig(file, dpi=150)


def _draw_tenants(axes: Axes, columns: Sequence[Scores], tenants: Sequence[str]) -> None:
    for index, tenant in enumerate(tenants):
        axes.plot(
            # A missing score is a gap in the line.
            [100 * scores[tenant].accuracy if tenant in scores else nan for scores in columns],
            label=tenant,
            color=COLOURS[index % len(COLOURS)],
            marker=MARKERS[index % len(MARKERS)],
            linewidth=1.4,
            markersize=5,
        )


def _draw_mean(axes: Axes, columns: Sequence[Scores]) -> None:
    means = [mean_accuracy(scores) for scores in columns]
    points = [nan if mean is None else 100 * mean for mean in means]
    axes.plot(points, label="mean", color="black", linewidth=3)


def _column_labels(results: Results, columns: Sequence[Scores]) -> list[str]:
    """Each column's name and, where no line can hide it, its mean."""
    versions = ["start" if version.number == 0 else f"v{version.number}" for version in results.versions]
    means = [mean_accuracy(scores) for scores in columns]
    return [
        name if mean is None else f"{name}\nmean {100 * mean:.1f}"
        for name, mean in zip(["base", *versions], means, strict=True)
    ]
