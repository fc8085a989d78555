"""The console's scope: all tenants for staff, one for a member; all is taken back when the answer is a failure."""

import pytest
from django.contrib.auth.models import AnonymousUser
from django.contrib.sessions.backends.signed_cookies import SessionStore
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.test import RequestFactory

from deploy.console_scope import ConsoleScopeMiddleware
from tenants import scoping
from tenants.models import Tenant
from tests.factories import MembershipFactory, TenantFactory, UserFactory

pytestmark = pytest.mark.django_db


def request_of(path: str, *, is_staff: bool, tenant: Tenant | None = None) -> HttpRequest:
    request = RequestFactory().get(path)
    request.user = UserFactory.create(is_staff=is_staff)
    if tenant is not None:
        MembershipFactory.create(user=request.user, tenant=tenant)
    request.session = SessionStore()
    return request


def add_tenant(request: HttpRequest) -> HttpResponseBase:
    """A view that writes, and then fails if it is asked to."""
    TenantFactory.create(slug="written")
    return HttpResponse(status=500 if "fails" in request.path else 200)


def scope_in_force(request: HttpRequest) -> HttpResponseBase:
    scope = scoping.in_force()
    return HttpResponse(f"{scope.role} {scope.tenant_id}" if scope else "no scope")


def test_only_signed_in_staff_below_the_console_works_across_tenants(acme: Tenant) -> None:
    answer = ConsoleScopeMiddleware(scope_in_force)
    assert answer(request_of("/console/", is_staff=True)).getvalue() == b"prelude_platform None"
    assert answer(request_of("/api/v1/me", is_staff=True)).getvalue() == b"no scope"
    assert answer(request_of("/console/", is_staff=True, tenant=acme)).getvalue() == b"prelude_platform None"
    nobody = RequestFactory().get("/console/")
    nobody.user = AnonymousUser()
    assert answer(nobody).getvalue() == b"no scope"


def test_a_member_below_the_console_works_as_the_applications_role_within_its_tenant(acme: Tenant) -> None:
    answer = ConsoleScopeMiddleware(scope_in_force)
    within = f"none {acme.pk}".encode()
    assert answer(request_of("/console/", is_staff=False, tenant=acme)).getvalue() == within
    assert answer(request_of("/api/v1/me", is_staff=False, tenant=acme)).getvalue() == b"no scope"
    assert answer(request_of("/console/", is_staff=False)).status_code == 403


@pytest.mark.parametrize(("path", "n_written"), [("/console/works/", 1), ("/console/fails/", 0)])
def test_what_a_failed_request_has_written_is_taken_back(path: str, n_written: int) -> None:
    ConsoleScopeMiddleware(add_tenant)(request_of(path, is_staff=True))
    with scoping.platform():
        assert Tenant.objects.filter(slug="written").count() == n_written
