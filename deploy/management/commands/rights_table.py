"""`manage.py rights_table`: docs/rights.md, from the table that the code goes by."""

from typing import Any

from django.core.management.base import BaseCommand

from tenants.rights import OPERATOR_RIGHTS, ROLE_RIGHTS, Right

_INTRODUCTION = """# Rights

Who may do what. This page is written by `make openapi` from `tenants/rights.py`, which the API and the console go by.

A right is a resource and an action: reading is `GET`, writing is making, changing, ending and deleting; the one does
not imply the other. Local runs, events and evaluations belong to their rounds. A tenant's people and keys meet
their own tenant's rows alone, and what only operators do (make tenants, base models and federations, start rounds, roll
back, schedule) is refused to them whatever they hold.

A tenant's key holds some of its owner's rights: an engineer's, if none are named. A member's own key does at each
request what both it and the member's role may do. An operator's key holds what it was given: everything, if nothing is
named. Nobody gives to a key or to a member what it does not hold itself.
"""


class Command(BaseCommand):
    """Prints the page."""

    help = "Prints docs/rights.md: each right, and who holds it."

    def handle(self, *_: object, **__: Any) -> None:
        """Print it."""
        self.stdout.write(page(), ending="")


def page() -> str:
    """The whole of docs/rights.md."""
    holders = {**{role.value: rights for role, rights in ROLE_RIGHTS.items()}, "operator": OPERATOR_RIGHTS}
    rows = [_row("right", list(holders)), _row("---", [":---:"] * len(holders))]
    rows += [_row(f"`{word}`", _marks(word, holders)) for word in sorted(OPERATOR_RIGHTS)]
    return "\n".join([_INTRODUCTION, *rows, ""])


def _marks(word: Right, holders: dict[str, frozenset[Right]]) -> list[str]:
    return ["yes" if word in rights else "–" for rights in holders.values()]


def _row(first: str, rest: list[str]) -> str:
    return f"| {' | '.join([first, *rest])} |"
