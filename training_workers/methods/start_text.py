"""The public text that prefixes and prompts start from."""

from training_workers.errors import SpecificationInvalid
from training_workers.loading import BaseModel


def start_tokens(base: BaseModel, text: str, n_tokens: int) -> list[int]:
    """The text's first tokens, repeated where it is short.

    Raises:
        SpecificationInvalid: they leave nothing of the base model's context, or the text has no token.
    """
    limit = base.facts.context_length
    if n_tokens >= limit:
        reason = f"{n_tokens} virtual tokens leave nothing of the context of {limit} positions"
        raise SpecificationInvalid(field="method.n_virtual_tokens", reason=reason)
    tokens: list[int] = list(base.tokenizer(text)["input_ids"])
    if not tokens:
        raise SpecificationInvalid(field="method.start_text", reason="the tokenizer makes no token of it")
    return (tokens * (n_tokens // len(tokens) + 1))[:n_tokens]
