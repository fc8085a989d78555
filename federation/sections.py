"""What all sections of a federation's specification have in common."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError


def _storable(text: str) -> str:
    """PostgreSQL and safetensors hold Unicode text without NUL; lone surrogates are none."""
    if "\x00" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("text must hold neither NUL characters nor lone surrogates")
    return text


Text = Annotated[str, AfterValidator(_storable)]


class Section(BaseModel):
    """Takes known fields of the right type only, and never changes."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, strict=True)


def first_fault(error: ValidationError) -> tuple[str, str]:
    """The first faulty field's dotted path, empty for the whole, and what is wrong with it."""
    first = error.errors()[0]
    # What our own validators raise comes with pydantic's name for it in front.
    return ".".join(map(str, first["loc"])), first["msg"].removeprefix("Value error, ")
