"""The console's first page: counts, live rounds as they move, and what ended last."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from federation.selectors.overview import last_finished_rounds, overview
from federation.selectors.progress import live_rounds

admin.site.index_template = "console/dashboard.html"
admin.site.index_title = "Dashboard"


def add_overview(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """What the dashboard shows, for those who may see rounds; Unfold calls this for the first page."""
    if request.user.has_perm("federation.view_federatedround"):
        context |= shown()
    return context


def shown() -> dict[str, Any]:
    """The platform as it is now."""
    return {"overview": overview(), "live_rounds": live_rounds(), "finished_rounds": last_finished_rounds()}
