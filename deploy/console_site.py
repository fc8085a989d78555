"""The console's site: open to staff, and to tenants' people whose membership is in force."""

from django.http import HttpRequest
from unfold.sites import UnfoldAdminSite

from deploy import console_membership


class ConsoleSite(UnfoldAdminSite):  # type: ignore[misc]  # Unfold has no types
    """Unfold's site; what each person sees and may do there is asked at every page."""

    def has_permission(self, request: HttpRequest) -> bool:
        """Whether somebody may enter at all."""
        return console_membership.in_force() is not None or bool(super().has_permission(request))
