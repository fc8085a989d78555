"""Which tenant has which rows: by domain, alike, or skewed by label as the literature does it.

The Dirichlet splits are those of Hsu et al. 2019 (arXiv 1909.06335) in the form of Li et al. 2022 (NIID-Bench,
arXiv 2102.02079): each label's rows go to the tenants in shares drawn from Dirichlet(alpha), and everything is
drawn again until no tenant has too few rows.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.random import Generator

from training_workers.benchmark.texts import Row, Texts
from training_workers.errors import SplitImpossible

N_TENANTS = 4
MIN_ROWS = 32
MAX_DRAWS = 10_000

NATURAL = "natural"
IDENTICAL = "identical"
ALPHAS = {
    "dirichlet-10": 10.0,
    "dirichlet-1": 1.0,
    "dirichlet-0.5": 0.5,
    "dirichlet-0.1": 0.1,
}
SPLITS = (NATURAL, IDENTICAL, *ALPHAS)


@dataclass(frozen=True)
class Tenant:
    """One tenant's rows to train on."""

    name: str
    rows: tuple[Row, ...]

    @property
    def n_train(self) -> int:
        """The weight of its updates."""
        return len(self.rows)

    @cached_property
    def shares(self) -> dict[str, float]:
        """Each stratum's share of its rows: what its own use of a model looks like."""
        counts = Counter(row.stratum for row in self.rows)
        return {stratum: n / self.n_train for stratum, n in sorted(counts.items())}

    @cached_property
    def label_counts(self) -> dict[str, int]:
        """Its rows of each label."""
        return dict(Counter(row.example.label for row in self.rows))

    @cached_property
    def content(self) -> bytes:
        """Its rows as the JSON Lines file that it would upload."""
        lines = (json.dumps({"text": row.example.text, "label": row.example.label}) for row in self.rows)
        return "".join(f"{line}\n" for line in lines).encode()


def pooled(texts: Texts) -> Tenant:
    """All rows in one hand: what the centralized twin has."""
    return Tenant(name="all", rows=texts.train)


def splits_of(texts: Texts) -> tuple[str, ...]:
    """The splits that these texts allow: the natural one needs a domain a tenant."""
    return SPLITS if len(texts.domains) == N_TENANTS else SPLITS[1:]


def partition(texts: Texts, split: str, *, seed: int) -> list[Tenant]:
    """The tenants of a split; the same for the same seed, every row with exactly one of them.

    Raises:
        SplitImpossible: the texts do not allow it.
    """
    if split not in splits_of(texts):
        raise SplitImpossible(
            split=split, reason=f"it needs {N_TENANTS} domains; there are {len(texts.domains)}"
        )
    generator = np.random.default_rng([seed, SPLITS.index(split)])
    if split == NATURAL:
        groups = [[row for row in texts.train if row.domain == domain] for domain in texts.domains]
        return [
            _tenant(domain, group, generator) for domain, group in zip(texts.domains, groups, strict=True)
        ]
    if split == IDENTICAL:
        places = np.array_split(generator.permutation(len(texts.train)), N_TENANTS)
    else:
        places = _skewed(texts, ALPHAS[split], generator)
    return [
        _tenant(f"tenant {number}", [texts.train[place] for place in own], generator)
        for number, own in enumerate(places, start=1)
    ]


def _skewed(texts: Texts, alpha: float, generator: Generator) -> list[np.ndarray]:
    labels = np.array([row.example.label for row in texts.train])
    for _ in range(MAX_DRAWS):
        parts = [
            _shared_out(np.flatnonzero(labels == label), alpha, generator) for label in sorted(set(labels))
        ]
        places = [np.concatenate(own) for own in zip(*parts, strict=True)]
        if min(map(len, places)) >= MIN_ROWS:
            return places
    raise SplitImpossible(
        split=f"dirichlet-{alpha:g}", reason=f"no draw leaves each tenant {MIN_ROWS} of {len(labels)} rows"
    )


def _shared_out(places: np.ndarray, alpha: float, generator: Generator) -> list[np.ndarray]:
    """One label's rows, shuffled and cut where the drawn shares say."""
    shares = generator.dirichlet([alpha] * N_TENANTS)
    cuts = (np.cumsum(shares)[:-1] * len(places)).round().astype(int)
    return np.split(generator.permutation(places), cuts)


def _tenant(name: str, rows: Sequence[Row], generator: Generator) -> Tenant:
    return Tenant(name=name, rows=tuple(rows[place] for place in generator.permutation(len(rows))))
