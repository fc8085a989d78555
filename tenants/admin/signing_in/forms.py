"""Codes of authenticator apps and recovery codes, and old passwords: on record and locked out as at the sign-in."""

from allauth.account.adapter import get_adapter
from allauth.core import context
from allauth.mfa.base.forms import AuthenticateForm, ReauthenticateForm
from django import forms
from django.contrib.auth.models import User
from unfold.forms import AdminOwnPasswordChangeForm

from tenants.admin.signing_in import lock_out
from tenants.services import accounts


class CountedCode:
    """Counts attempts on codes apart from those on the password: a right one of that must not forgive these."""

    user: User

    def clean_code(self) -> str:
        """Raises ValidationError for a wrong code, and for any while the account or the address is locked out."""
        request, username = context.request, self.user.get_username()
        key = f"code of {username}"
        if not lock_out.begin(request, key=key):
            raise get_adapter().validation_error(lock_out.CODE)
        try:
            code: str = super().clean_code()  # type: ignore[misc]  # the form's own
        except forms.ValidationError:
            accounts.record_sign_in_failed(username=username, reason="code_wrong")
            lock_out.count_failure(request, key=key, username=username)
            raise
        lock_out.forgive(request, key=key)
        return code


class CodeForm(CountedCode, AuthenticateForm):  # type: ignore[misc]  # allauth has no types
    """The second step of a sign-in."""


class ConfirmCodeForm(CountedCode, ReauthenticateForm):  # type: ignore[misc]  # allauth has no types
    """A code once more, by somebody who has signed in."""


class OwnPasswordForm(AdminOwnPasswordChangeForm):  # type: ignore[misc]  # Unfold has no types
    """A new password in place of the old one, which is looked at like one at the sign-in, and counted with those."""

    def clean_old_password(self) -> str:
        """Raises ValidationError for a wrong one, and for any while the account or the address is locked out."""
        old_password: str = self.cleaned_data["old_password"]
        if not get_adapter().reauthenticate(self.user, old_password):
            raise forms.ValidationError(self.error_messages["password_incorrect"], code="password_incorrect")
        return old_password
