"""Which rows train and which are held out: decided by the row's input alone.

The side follows from a hash of the normalised input, not from a row's place or a random number: duplicates,
and the same text with another label, always fall on the same side, also across uploads, so that no held-out
input is ever trained on. (Inputs that differ only behind what a task shows of them are parted where a local run's
rows are chosen: see `select_both`.)
"""

import hashlib
import unicodedata

from training_workers.examples.rows import Example

HELD_OUT_ONE_IN = 5


def input_hash(example: Example, *, max_characters: int | None = None) -> int:
    """64 bits of BLAKE2b over the input, whatever its case, white space and Unicode composition.

    Over its first `max_characters` where that is given.
    """
    text = example.input_text[:max_characters]
    normalised = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    return int.from_bytes(hashlib.blake2b(normalised.encode("utf-8"), digest_size=8).digest(), "big")


def is_held_out(hashed: int) -> bool:
    """Whether a row with this hash is evaluated on and never trained on: one input in five."""
    return hashed % HELD_OUT_ONE_IN == 0
