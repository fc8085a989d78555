"""The pages: the sign-in and its second step, the second factor of one's own account, and confirming who one is."""

from typing import Any, cast

from allauth.account import views as account_views
from allauth.mfa.base import views as mfa_views
from allauth.mfa.recovery_codes import views as recovery_views
from allauth.mfa.totp import views as totp_views
from allauth.socialaccount.adapter import get_adapter
from django.contrib import admin
from django.contrib.auth.models import User
from django.contrib.auth.views import PasswordChangeView
from django.db import transaction
from django.http import HttpRequest, HttpResponseBase
from django.urls import reverse_lazy

from tenants.admin.signing_in import sessions
from tenants.admin.signing_in.forms import CodeForm, ConfirmCodeForm, OwnPasswordForm
from tenants.admin.signing_in.pages import CountedPage, EntrancePage
from tenants.services import accounts


def _record(request: HttpRequest, change: str) -> None:
    accounts.record_second_factor(
        cast(User, request.user), change=change, session_key=request.session.session_key
    )


class SignInView(EntrancePage, account_views.LoginView):  # type: ignore[misc]  # allauth has no types
    """Name and password, and a button for each OpenID provider."""

    title = "Log in"
    submit_label = "Log in"
    template_name = "console/sign_in.html"

    def get_context_data(self, **context: Any) -> dict[str, Any]:
        """With the providers."""
        providers = get_adapter().list_providers(self.request)
        return {**super().get_context_data(**context), "providers": providers}


class CodeView(EntrancePage, mfa_views.AuthenticateView):  # type: ignore[misc]  # allauth has no types
    """The second step."""

    form_class = CodeForm
    title = "Second step"
    explanation = "Enter the code that your authenticator app shows, or one of your recovery codes."
    submit_label = "Log in"
    template_name = "console/sign_in_code.html"


class ConfirmPasswordView(EntrancePage, account_views.ReauthenticateView):  # type: ignore[misc]  # allauth has no types
    """Before a second factor is changed."""

    title = "Confirm that it is you"
    explanation = "You signed in a while ago. Enter your password once more."
    template_name = "console/confirm.html"


class ConfirmCodeView(EntrancePage, mfa_views.ReauthenticateView):  # type: ignore[misc]  # allauth has no types
    """The same with a code; also for a session in which none was shown yet."""

    form_class = ConfirmCodeForm
    title = "Confirm that it is you"
    explanation = CodeView.explanation
    template_name = "console/confirm.html"


class OwnPasswordView(CountedPage, PasswordChangeView):
    """The admin's page, whose own form would take any number of guesses at the old password."""

    form_class = OwnPasswordForm
    success_url = reverse_lazy("admin:password_change_done")

    def get_context_data(self, **context: Any) -> dict[str, Any]:
        """What the console's layout needs besides the view's own."""
        return {**admin.site.each_context(self.request), **super().get_context_data(**context)}


class SecondFactorView(EntrancePage, mfa_views.IndexView):  # type: ignore[misc]  # allauth has no types
    """What the account has, and what can be done about it."""

    title = "Second factor"
    template_name = "console/second_factor.html"


class SetUpTotpView(EntrancePage, totp_views.ActivateTOTPView):  # type: ignore[misc]  # allauth has no types
    """A secret for an authenticator app, and a first code as a proof that it arrived."""

    title = "Set up a second factor"
    explanation = (
        "Scan this with an authenticator app, or type the secret into it. Then enter the code that it shows."
    )
    submit_label = "Set up"
    template_name = "console/totp_set_up.html"

    def form_valid(self, form: Any) -> HttpResponseBase:
        """On record with the change."""
        with transaction.atomic():
            response = super().form_valid(form)
            _record(self.request, "totp_added")
            if self.did_generate_recovery_codes:
                _record(self.request, "recovery_codes_made")
        sessions.note_second_factor(self.request.session)
        return cast(HttpResponseBase, response)


class RemoveTotpView(EntrancePage, totp_views.DeactivateTOTPView):  # type: ignore[misc]  # allauth has no types
    """The way to another app, or to none where none is required."""

    title = "Remove the second factor"
    explanation = "Your authenticator app and your recovery codes will open nothing any more."
    submit_label = "Remove"

    def form_valid(self, form: Any) -> HttpResponseBase:
        """On record with the change."""
        with transaction.atomic():
            response = super().form_valid(form)
            _record(self.request, "totp_removed")
        return cast(HttpResponseBase, response)


class RecoveryCodesView(EntrancePage, recovery_views.ViewRecoveryCodesView):  # type: ignore[misc]  # allauth has no types
    """The codes, this once."""

    title = "Recovery codes"
    template_name = "console/recovery_codes.html"


class NewRecoveryCodesView(EntrancePage, recovery_views.GenerateRecoveryCodesView):  # type: ignore[misc]  # allauth has no types
    """New ones in place of all old ones."""

    title = "New recovery codes"
    explanation = "The codes that you have now will open nothing any more."
    submit_label = "Make new codes"

    def form_valid(self, form: Any) -> HttpResponseBase:
        """On record with the change."""
        with transaction.atomic():
            response = super().form_valid(form)
            _record(self.request, "recovery_codes_made")
        return cast(HttpResponseBase, response)
