"""What all sections of a federation's specification have in common."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict


def _storable(text: str) -> str:
    """PostgreSQL and safetensors hold Unicode text without NUL; lone surrogates are none."""
    if "\x00" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("text must hold neither NUL characters nor lone surrogates")
    return text


Text = Annotated[str, AfterValidator(_storable)]


class Section(BaseModel):
    """Takes known fields of the right type only, and never changes."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=True)
