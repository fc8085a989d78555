"""A tenant's examples: reading them as a stream, validating them, splitting and sampling them.

Every function takes a *binary seekable file object* and reads it from its beginning; memory does not grow
with the file. The same rows always give the same split: see `split.py`.
"""

from training_workers.errors import DatasetRefusal
from training_workers.examples.label_prior import count_training_labels, label_log_prior
from training_workers.examples.reading import read_examples
from training_workers.examples.rows import (
    ChatExample,
    CompletionExample,
    Example,
    LabelExample,
    Message,
    as_row,
    example_from_row,
)
from training_workers.examples.selection import select_both, select_held_out
from training_workers.examples.split import input_hash, is_held_out
from training_workers.examples.validation import DatasetFacts, DatasetLimits, validate

__all__ = [
    "ChatExample",
    "CompletionExample",
    "DatasetFacts",
    "DatasetLimits",
    "DatasetRefusal",
    "Example",
    "LabelExample",
    "Message",
    "as_row",
    "count_training_labels",
    "example_from_row",
    "input_hash",
    "is_held_out",
    "label_log_prior",
    "read_examples",
    "select_both",
    "select_held_out",
    "validate",
]
