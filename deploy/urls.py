"""All paths: the API and the console. (Probes are answered before: `api.probes.ProbesMiddleware`.)"""

from django.contrib import admin
from django.urls import include, path
from django.views.decorators.http import require_GET

from deploy import console_events, console_membership

urlpatterns = [
    path("api/v1/", include("api.urls")),
    path("console/membership/", console_membership.choose, name="choose_membership"),
    path(
        "console/events/<str:public_id>/",
        admin.site.admin_view(require_GET(console_events.follow)),
        name="console_events",
    ),
    # First: its sign-in stands in for the admin's.
    path("console/", include("tenants.admin.signing_in.urls")),
    path("console/", admin.site.urls),
]
handler400 = "api.errors.bad_request"
handler404 = "api.errors.not_found"
handler500 = "api.errors.server_error"
