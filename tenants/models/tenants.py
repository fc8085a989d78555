"""Companies that are customers, their people and their programs' keys."""

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models.functions import Now

from tenants.ids import Identified
from tenants.models.owned import TenantOwned
from tenants.rights import OPERATOR_RIGHTS, ROLE_RIGHTS, Right
from tenants.scoping import TenantTableManager
from tenants.states import Role, TenantState


class Tenant(Identified):
    """A customer. Its data key encrypts its datasets and is itself wrapped by the platform's master key."""

    id_prefix = "tnt"

    name = models.CharField(max_length=200)
    slug = models.SlugField(max_length=63)
    state = models.CharField(max_length=16, choices=TenantState, default=TenantState.ACTIVE)
    wrapped_data_key = models.BinaryField(editable=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    objects = TenantTableManager["Tenant"]()

    class Meta:
        verbose_name = "tenant"
        ordering = ["slug"]
        constraints = [
            models.UniqueConstraint(fields=["slug"], name="tenant_slug_unique"),
            models.CheckConstraint(
                condition=models.Q(state__in=TenantState.values), name="tenant_state_known"
            ),
        ]

    def __str__(self) -> str:
        return self.name


class Membership(TenantOwned):
    """A person's role within a tenant."""

    id_prefix = "mem"

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=16, choices=Role)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        verbose_name = "membership"
        constraints = [
            models.UniqueConstraint(fields=["tenant", "user"], name="membership_unique"),
            models.CheckConstraint(condition=models.Q(role__in=Role.values), name="membership_role_known"),
        ]

    def __str__(self) -> str:
        return f"{self.address} ({self.role})"

    @property
    def address(self) -> str:
        """As a tenant knows the person: what the account is called, and how it writes its address, may be others'."""
        return self.user.email.lower() or self.user.get_username()


class ApiKey(TenantOwned):
    """A program's key: the secret is shown once and only its keyed digest is stored. No tenant: an operator's key.

    With a membership it is that member's own: it does no more than the member may, and ends with the membership.
    """

    id_prefix = "key"

    tenant = models.ForeignKey(  # type: ignore[assignment]  # an operator's key belongs to no tenant
        "tenants.Tenant", null=True, blank=True, on_delete=models.CASCADE, related_name="api_keys"
    )
    name = models.CharField(max_length=200)
    digest = models.BinaryField(max_length=32, editable=False)
    membership = models.ForeignKey(
        Membership, null=True, blank=True, on_delete=models.CASCADE, related_name="api_keys"
    )
    rights = ArrayField(models.CharField(max_length=64))
    allowed_networks = ArrayField(
        models.CharField(max_length=43), default=list, blank=True, help_text="None: from anywhere."
    )
    expires_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    rotated_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name = "API key"
        constraints = [
            models.CheckConstraint(
                condition=models.Q(rights__contained_by=sorted(OPERATOR_RIGHTS)), name="api_key_rights_known"
            ),
            models.CheckConstraint(
                condition=models.Q(membership=None) | models.Q(tenant__isnull=False),
                name="api_key_personal_within_tenant",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def reach(self) -> frozenset[Right]:
        """What such a key can do at most: all for an operator, its member's role now, or the owner's rights."""
        if self.tenant_id is None:
            return OPERATOR_RIGHTS
        return ROLE_RIGHTS[Role(self.membership.role) if self.membership else Role.OWNER]

    @property
    def rights_in_force(self) -> frozenset[Right]:
        """What the key may do now."""
        return frozenset(self.rights) & self.reach
