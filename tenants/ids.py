"""Identifiers: time-ordered UUIDs inside, readable prefixed names outside."""

import secrets
import time
from typing import ClassVar, Self
from uuid import UUID

from django.core.exceptions import ObjectDoesNotExist
from django.db import models

from tenants.errors import NotFound

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: no i, l, o, u to misread
_VALUES = {character: value for value, character in enumerate(_ALPHABET)}
_LENGTH = 26  # 26 characters of 5 bits hold 128 bits
_PAIRS = [
    first + second for first in _ALPHABET for second in _ALPHABET
]  # half as many steps: a page has 200 ids
_PAIR_SHIFTS = range(5 * (_LENGTH - 2), -1, -10)


def uuid7() -> UUID:
    """A UUID of version 7 (RFC 9562): 48 bits of milliseconds, then random, so that keys sort by creation."""
    milliseconds = time.time_ns() // 1_000_000
    value = (milliseconds & (2**48 - 1)) << 80 | 0x7 << 76 | secrets.randbits(12) << 64
    return UUID(int=value | 0b10 << 62 | secrets.randbits(62))


def encode(value: UUID) -> str:
    """26 characters for the UUID's 128 bits."""
    number = value.int
    return "".join([_PAIRS[number >> shift & 1023] for shift in _PAIR_SHIFTS])


def decode(text: str) -> UUID:
    """The UUID that `encode` made the text from. Raises ValueError for anything else."""
    if len(text) != _LENGTH:
        raise ValueError(f"an identifier has {_LENGTH} characters, not {len(text)}")
    number = 0
    for character in text:
        if character not in _VALUES:
            raise ValueError(f"{character!r} is in no identifier")
        number = number << 5 | _VALUES[character]
    return UUID(int=number)


class Identified(models.Model):
    """A row with a time-ordered key and a public name such as `rnd_01k…`."""

    id_prefix: ClassVar[str]
    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)

    class Meta:
        abstract = True

    @property
    def public_id(self) -> str:
        """The name that the API, the console and messages use."""
        return f"{self.id_prefix}_{encode(self.id)}"

    @classmethod
    def key_from(cls, public_id: str) -> UUID:
        """The primary key behind a public name. Raises NotFound when it cannot name a row of this model."""
        prefix, _, text = public_id.partition("_")
        try:
            if prefix != cls.id_prefix:
                raise ValueError(prefix)
            return decode(text)
        except ValueError:
            raise NotFound(kind=str(cls._meta.verbose_name), public_id=public_id) from None

    @classmethod
    def pick(cls, queryset: models.QuerySet[Self], public_id: str) -> Self:
        """The row of that name within `queryset`. Raises NotFound when it is not there, or not visible."""
        try:
            return queryset.get(pk=cls.key_from(public_id))
        except ObjectDoesNotExist:
            raise NotFound(kind=str(cls._meta.verbose_name), public_id=public_id) from None

    def lock(self) -> None:
        """Take the row's lock and reload it: what follows in this transaction decides on what is true now.

        Raises NotFound when the row is no longer there.
        """
        try:
            # Not the key: who inserts an event of the row need not wait, and cannot close a circle of waiting.
            self.refresh_from_db(from_queryset=type(self)._base_manager.select_for_update(no_key=True))
        except ObjectDoesNotExist:
            raise NotFound(kind=str(self._meta.verbose_name), public_id=self.public_id) from None
