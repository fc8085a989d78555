"""All paths: the API, the console, the probes."""

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("api/v1/", include("api.urls")),
    path("console/", admin.site.urls),
]
