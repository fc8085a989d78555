"""What the demo's tenants agree on."""

from collections.abc import Mapping
from typing import Any, Final

FEDERATION_NAME: Final = "Sentiment of short texts"

TENANT_NAMES: Final[Mapping[str, str]] = {
    "movies": "Movies",
    "shop": "Shop",
    "newspaper": "Newspaper",
    "tweets": "Tweets",
}

# Public and of no tenant: its key-values are the start prefix, cut to the number of virtual tokens.
START_TEXT: Final = (
    "Is the sentiment of the text positive or negative? "
    "Text: I love it.\nSentiment: positive\n"
    "Text: I hate it.\nSentiment: negative\n"
)

SPECIFICATION: Final[dict[str, Any]] = {
    "method": "prefix",
    "method_settings": {"n_virtual_tokens": 16, "start_text": START_TEXT},
    "task": {
        "kind": "label",
        "template": "{text}\nSentiment:",
        "label_words": {"positive": " positive", "negative": " negative"},
        "max_text_characters": 600,
    },
    "training": {"learning_rate": 0.005, "n_steps": 12, "batch_size": 8, "gradient_clip": 1.0, "seed": 0},
    # Honest updates are at about 0.02; from about 0.3 on, a mean of prefixes no longer acts like its parts.
    "aggregation": {"rule": "weighted_mean", "max_weight": None, "max_relative_norm": 0.3},
    "round": {"quorum": 2, "deadline_seconds": 900},
    "gate": {"tolerance": 0.005},
    "evaluation": {"n_held_out_rows": 200},
}
