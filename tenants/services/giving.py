"""The rule for whoever gives rights away, by a key or by a role."""

from tenants.errors import RightNotHeld
from tenants.rights import Right


def require_held(rights: frozenset[Right], *, by: frozenset[Right]) -> None:
    """Nobody gives what it does not hold itself; operators' keys may hold all. Raises RightNotHeld."""
    if lacking := rights - by:
        raise RightNotHeld(rights=sorted(lacking))
