"""Template tags of the console: numbers, times and states as people read them, and the buttons of a row."""

import json
from datetime import datetime
from typing import Any

from django import template
from django.contrib import admin
from django.db import models
from django.template import Context
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from tenants.admin.row_actions import ChoiceAction, RowAction
from tenants.admin.rows import ServiceRows, badge, change_url, link

register = template.Library()
NOTHING = "–"

register.filter("badge", badge)
register.filter("link", link)
register.filter("page", change_url)


@register.filter
def percent(fraction: float | None) -> str:
    """0.8846 is 88.5 %."""
    return NOTHING if fraction is None else f"{100 * fraction:.1f} %"


@register.filter
def points(difference: float | None) -> SafeString | str:
    """A difference of two fractions in percentage points, with its sign and colour."""
    if difference is None:
        return ""
    direction = "up" if difference > 0.0005 else "down" if difference < -0.0005 else "level"
    return format_html(
        '<span class="prl-{}">{}</span>', direction, f"{100 * difference:+.1f}".replace("-", "−")
    )


@register.filter
def minus(value: float | None, other: float | None) -> float | None:
    """The difference, if both are known."""
    return None if value is None or other is None else value - other


@register.filter
def n_bytes(size: int | None) -> str:
    """A size in decimal units: 1474656 bytes are 1.5 MB."""
    if size is None:
        return NOTHING
    amount, units = float(size), ["B", "kB", "MB", "GB", "TB"]
    while amount >= 1_000 and len(units) > 1:
        amount, units = amount / 1_000, units[1:]
    return f"{amount:.0f} B" if units[0] == "B" else f"{amount:.1f} {units[0]}"


@register.filter
def duration(seconds: float | None) -> str:
    """72.4 seconds are 1 min 12 s."""
    if seconds is None:
        return NOTHING
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


@register.filter
def moment(time: datetime | None) -> SafeString | str:
    """A time in UTC, to the second."""
    if time is None:
        return NOTHING
    local = timezone.localtime(time)
    return format_html(
        '<time datetime="{}">{}</time>', local.isoformat(), local.strftime("%-d %b %Y, %H:%M:%S")
    )


@register.filter
def clock(time: datetime | None) -> SafeString | str:
    """Only the time of day of a time in UTC."""
    if time is None:
        return NOTHING
    local = timezone.localtime(time)
    return format_html('<time datetime="{}">{}</time>', local.isoformat(), local.strftime("%H:%M:%S"))


@register.filter
def took(row: Any) -> str:
    """How long a round has lasted, or lasts by now."""
    return duration(((row.finished_at or timezone.now()) - row.opened_at).total_seconds())


@register.filter
def thousands(number: object) -> str:
    """12345.6 is 12,346. What is not known comes as None, or from a template as an empty text."""
    return f"{number:,.0f}" if isinstance(number, int | float) else NOTHING


@register.filter
def decimals(number: object) -> str:
    """Three decimals."""
    return f"{number:.3f}" if isinstance(number, int | float) else NOTHING


@register.filter
def indented(value: object) -> str:
    """JSON as a person writes it."""
    return json.dumps(value, indent=2, ensure_ascii=False)


@register.inclusion_tag("console/row_action.html", takes_context=True)
def row_actions(context: Context, row: models.Model, *names: str) -> dict[str, Any]:
    """The buttons of a row, or those of the given names, that make sense now and that this person may press."""
    page, request = admin.site.get_model_admin(type(row)), context["request"]
    assert isinstance(page, ServiceRows)
    shown = [
        (action, action.url(row), action.asked(row), _choices(action, row))
        for action in page.row_actions
        if (not names or action.name in names) and action.is_offered(row) and action.is_permitted(request)
    ]
    return {"shown": shown, "row": row, "request": request, "csrf_token": context.get("csrf_token")}


def _choices(action: RowAction, row: models.Model) -> list[Any] | None:
    return list(action.choices(row)) if isinstance(action, ChoiceAction) else None
