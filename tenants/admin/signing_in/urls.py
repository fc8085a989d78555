"""Paths of signing in, under the console's. The names are allauth's, which leads from page to page by them.

What allauth has besides (signing up, changing addresses, connecting further accounts) has no path here.
"""

from allauth.account.views import logout
from allauth.socialaccount.providers.openid_connect.views import callback, login
from django.conf import settings
from django.contrib import admin
from django.urls import path
from django.views.decorators.http import require_POST

from tenants.admin.signing_in import views

_PROVIDER = {"provider_id": settings.OIDC_PROVIDER_ID}

urlpatterns = [
    path("login/", views.SignInView.as_view(), name="account_login"),
    path("login/code/", views.CodeView.as_view(), name="mfa_authenticate"),
    path("login/leave/", require_POST(logout), name="account_logout"),
    path("confirm/password/", views.ConfirmPasswordView.as_view(), name="account_reauthenticate"),
    path("confirm/code/", views.ConfirmCodeView.as_view(), name="mfa_reauthenticate"),
    # In place of the admin's, whose name leads here.
    path("password_change/", admin.site.admin_view(views.OwnPasswordView.as_view()), name="own_password"),
    path("second-factor/", views.SecondFactorView.as_view(), name="mfa_index"),
    path("second-factor/set-up/", views.SetUpTotpView.as_view(), name="mfa_activate_totp"),
    path("second-factor/remove/", views.RemoveTotpView.as_view(), name="mfa_deactivate_totp"),
    path("recovery-codes/", views.RecoveryCodesView.as_view(), name="mfa_view_recovery_codes"),
    path("recovery-codes/new/", views.NewRecoveryCodesView.as_view(), name="mfa_generate_recovery_codes"),
]
if settings.OIDC_ISSUER:
    urlpatterns += [
        path("login/openid/", require_POST(login), _PROVIDER, name="openid_connect_login"),
        path("login/openid/callback/", callback, _PROVIDER, name="openid_connect_callback"),
    ]
