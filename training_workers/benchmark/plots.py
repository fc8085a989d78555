"""Two pictures: scores by split, and what is lost against the bytes that travel."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure as Picture

from training_workers.benchmark.partition import SPLITS
from training_workers.benchmark.summary import Line

# Okabe and Ito's colours, which people with any colour vision tell apart.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def draw_splits(lines: Sequence[Line], file: Path) -> bool:
    """Each arm's score by split, with its deviation; a picture for each base and task. False: nothing to draw.

    Arms of one split alone, where others are on several, stand in the tables: here they would be dots upon each other.
    """
    pairs = list(dict.fromkeys((line.base, line.task) for line in lines))
    if not pairs:
        return False
    picture = Picture(figsize=(9, 4.2 * len(pairs)), layout="constrained")
    panels = picture.subplots(len(pairs), 1, squeeze=False)[:, 0]
    for axes, (base, task) in zip(panels, pairs, strict=True):
        mine = [line for line in lines if (line.base, line.task) == (base, task) and not line.is_fresh]
        _draw_arms(axes, most_spread(mine))
        axes.set_title(f"{base}, {task}", loc="left")
    picture.savefig(file, dpi=130)
    return True


def draw_bytes(lines: Sequence[Line], file: Path) -> bool:
    """Points below the centralized twin against all bytes that travelled. False: nothing to draw."""
    sent = [
        line for line in lines if line.costs and line.costs.total_bytes and line.gap and not line.is_fresh
    ]
    if not sent:
        return False
    picture = Picture(figsize=(9, 4.8), layout="constrained")
    axes = picture.subplots()
    for index, arm in enumerate(dict.fromkeys(line.arm for line in sent)):
        mine = [line for line in sent if line.arm == arm]
        axes.plot(
            [line.costs.total_bytes / 1e6 for line in mine if line.costs],
            [line.gap.mean for line in mine if line.gap],
            linestyle="none",
            color=COLOURS[index % len(COLOURS)],
            marker=MARKERS[index // len(COLOURS) % len(MARKERS)],
            label=arm,
        )
    axes.set_xscale("log")
    axes.set_xlabel("all payloads of a federation, both ways (MB)")
    axes.set_ylabel("points below centralized")
    _finish(axes)
    picture.savefig(file, dpi=130)
    return True


def most_spread(lines: Sequence[Line]) -> list[Line]:
    """The lines of arms that are on two splits at least; all, where none is."""
    splits = {arm: {line.split for line in lines if line.arm == arm} for arm in {line.arm for line in lines}}
    least = min(2, max(map(len, splits.values()), default=0))
    return [line for line in lines if len(splits[line.arm]) >= least]


def _draw_arms(axes: Axes, lines: Sequence[Line]) -> None:
    splits = [split for split in SPLITS if any(line.split == split for line in lines)]
    for index, arm in enumerate(dict.fromkeys(line.arm for line in lines)):
        mine = {line.split: line for line in lines if line.arm == arm}
        found = [split for split in splits if split in mine]
        axes.errorbar(
            [splits.index(split) for split in found],
            [mine[split].score.mean for split in found],
            yerr=[mine[split].score.deviation or 0.0 for split in found],
            color=COLOURS[index % len(COLOURS)],
            marker=MARKERS[index // len(COLOURS) % len(MARKERS)],
            capsize=3,
            linewidth=1.2,
            label=arm,
        )
    axes.set_xticks(range(len(splits)), splits)
    axes.set_ylabel("accuracy (%)")
    _finish(axes)


def _finish(axes: Axes) -> None:
    axes.grid(axis="y", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=8)
