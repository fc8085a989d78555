"""All paths: the API, the console, the probes."""

from django.contrib import admin
from django.urls import include, path

from api import probes
from deploy import console_membership

urlpatterns = [
    path("api/v1/", include("api.urls")),
    path("console/membership/", console_membership.choose, name="choose_membership"),
    # First: its sign-in stands in for the admin's.
    path("console/", include("tenants.admin.signing_in.urls")),
    path("console/", admin.site.urls),
    path("healthz", probes.healthz),
    path("readyz", probes.readyz),
]
handler400 = "api.errors.bad_request"
handler404 = "api.errors.not_found"
handler500 = "api.errors.server_error"
