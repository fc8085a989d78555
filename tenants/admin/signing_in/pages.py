"""allauth's views as pages of the console before one is in it: Unfold's sign-in layout and fields."""

from http import HTTPStatus
from typing import Any, ClassVar

from django import forms
from django.conf import settings
from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from unfold.widgets import BASE_INPUT_CLASSES

from tenants.admin.signing_in import lock_out


def refused(request: HttpRequest, *, status: int) -> HttpResponse:
    """The page for who has signed in somewhere, and whom that does not let in here."""
    context = {**admin.site.each_context(request), "title": "No way in"}
    return render(request, "console/sign_in_refused.html", context, status=status)


class CountedPage:
    """A view whose answer is 429 where its form was refused for a lock-out."""

    def render_to_response(self, context: dict[str, Any], **options: Any) -> HttpResponse:
        """The page with its status."""
        if not _is_locked_out(context.get("form")):
            return super().render_to_response(context, **options)  # type: ignore[misc,no-any-return]
        headers = {"Retry-After": str(settings.SIGN_IN_LOCK_SECONDS)}
        status = HTTPStatus.TOO_MANY_REQUESTS
        return super().render_to_response(context, status=status, headers=headers, **options)  # type: ignore[misc,no-any-return]


class EntrancePage(CountedPage):
    """A view's answer as such a page."""

    title: ClassVar[str] = ""
    explanation: ClassVar[str] = ""
    submit_label: ClassVar[str] = "Continue"
    template_name: str = "console/entrance_form.html"
    request: HttpRequest

    def get_context_data(self, **context: Any) -> dict[str, Any]:
        """What Unfold's layout needs besides the view's own."""
        found = {**admin.site.each_context(self.request), **super().get_context_data(**context)}  # type: ignore[misc]
        for field in getattr(found.get("form"), "fields", {}).values():
            field.widget.attrs["class"] = " ".join(BASE_INPUT_CLASSES)
            field.widget.attrs.pop("placeholder", None)
            field.help_text = ""
        words = {"title": self.title, "explanation": self.explanation, "submit_label": self.submit_label}
        return {**found, **words}


def _is_locked_out(form: forms.Form | None) -> bool:
    if form is None or not form.is_bound:
        return False
    return any(error.code == lock_out.CODE for found in form.errors.as_data().values() for error in found)
