"""How a tenant's labels are spread over the rows that it trains on."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import BinaryIO

from training_workers.examples.reading import read_examples
from training_workers.examples.rows import LabelExample
from training_workers.examples.split import input_hash, is_held_out


def count_training_labels(file: BinaryIO, file_format: str) -> dict[str, int]:
    """Rows by label, without the held-out ones: scores are taken on them."""
    rows = (row for row in read_examples(file, file_format) if isinstance(row, LabelExample))
    return Counter(row.label for row in rows if not is_held_out(input_hash(row)))


def label_log_prior(label_counts: Mapping[str, int], *, labels: Iterable[str]) -> dict[str, float]:
    """The log of each label's share in nats, one row added to each so that none is ruled out."""
    counts = {label: label_counts.get(label, 0) + 1 for label in labels}
    total = sum(counts.values())
    return {label: math.log(count / total) for label, count in counts.items()}
