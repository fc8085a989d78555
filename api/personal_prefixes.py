"""Personal prefixes: a tenant grows its own from a shared version, reads how it does, takes it out, deletes it.

For tenants' keys alone: operators need neither a tenant's scores nor its bytes to run the platform, and what it costs
them is in the tenant's usage, that it happened in the audit record.
"""

from http import HTTPStatus
from typing import ClassVar

from django.http import FileResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request
from rest_framework.response import Response

from api.federations import FederationView
from api.fields import Body, PublicIdField
from api.idempotency import idempotent
from api.permissions import TenantOnly
from api.rows import RowSerializer
from api.schema import ProblemSerializer, operation, paged
from api.views import ApiView
from federation.archive import build_personal_archive
from federation.models import Federation, PersonalPrefix, PrefixVersion
from federation.selectors import visibility
from federation.services.personal_prefixes import (
    DEFAULT_N_STEPS,
    delete_personal_prefix,
    grow_personal_prefix,
    read_content,
)
from federation.specification import DITTO_PROXIMAL
from federation.states import PersonalPrefixState, PersonalRule
from tenants import scoping
from tenants.lookups import pick
from tenants.models import Dataset
from tenants.rights import Resource
from tenants.services import usage

_FOR_TENANTS: dict[str, type[BasePermission]] = dict.fromkeys(("GET", "POST", "DELETE"), TenantOnly)


class NewPersonalPrefixSerializer(Body):
    """A personal prefix to be grown on the rows with which the tenant takes part."""

    rule = serializers.ChoiceField(
        PersonalRule.choices,
        help_text="fine_tune: plain training from the version. ditto (Li et al. 2021, arXiv 2012.04221): the same, "
        "held to the version by a proximal term. personal_values (method prefix alone): keys stay the shared ones, "
        "values are trained. prior (label tasks alone): nothing is trained; the log of the tenant's own label shares "
        "is added to the labels' logits at use. Where the method is full, prior alone: the others would train a whole "
        "model for each tenant.",
    )
    version = PublicIdField(
        PrefixVersion, required=False, help_text="What it grows from; the published one where left out."
    )
    n_steps = serializers.IntegerField(
        required=False, help_text=f"Steps of the federation's batch size, {DEFAULT_N_STEPS} where left out."
    )
    learning_rate = serializers.FloatField(
        required=False, help_text="Of AdamW; what suits the method where left out."
    )
    proximal = serializers.FloatField(
        required=False,
        help_text=f"ditto's strength, {DITTO_PROXIMAL} where left out: half of it times the squared distance from "
        "the version is added to the loss.",
    )


class PersonalPrefixSerializer(RowSerializer[PersonalPrefix]):
    """A tenant's own prefix, and its score beside the shared version's on the tenant's held-out rows."""

    id = PublicIdField(PersonalPrefix)
    federation = PublicIdField(Federation, source="federation_id")
    version = PublicIdField(PrefixVersion, source="version_id")
    dataset = PublicIdField(Dataset, source="dataset_id")
    rule = serializers.ChoiceField(PersonalRule.choices)
    n_steps = serializers.IntegerField(allow_null=True)
    learning_rate = serializers.FloatField(allow_null=True)
    proximal = serializers.FloatField(allow_null=True)
    state = serializers.ChoiceField(PersonalPrefixState.choices)
    reason = serializers.CharField(source="state_reason")
    shared_accuracy = serializers.FloatField(allow_null=True)
    shared_loss = serializers.FloatField(allow_null=True)
    accuracy = serializers.FloatField(allow_null=True)
    loss = serializers.FloatField(allow_null=True)
    n_rows = serializers.IntegerField(allow_null=True)
    is_better = serializers.BooleanField(
        allow_null=True,
        help_text="Than the shared version: by accuracy, by loss where equal; null before its end.",
    )
    size_bytes = serializers.IntegerField(allow_null=True)
    created_at = serializers.DateTimeField()
    finished_at = serializers.DateTimeField(allow_null=True)


class PersonalPrefixes(FederationView):
    """`/federations/{id}/personal-prefixes`."""

    resource = Resource.ENROLMENTS
    only: ClassVar = _FOR_TENANTS

    def load(self, federation_id: str) -> None:  # type: ignore[override]
        """To read, among those that the tenant has left, too."""
        is_read = self.request.method in SAFE_METHODS
        rows = visibility.federations_once_joined if is_read else visibility.federations
        self.federation = pick(rows, federation_id)

    @paged("list_personal_prefixes", tag="personal-prefixes", rows=PersonalPrefixSerializer)
    def get(self, _: Request) -> Response:
        """List the tenant's own in this federation, the newest first; also after it has left."""
        rows = visibility.personal_prefixes().filter(federation=self.federation)
        return self.page(rows, PersonalPrefixSerializer)

    @operation(
        "grow_personal_prefix",
        tag="personal-prefixes",
        body=NewPersonalPrefixSerializer,
        answer=PersonalPrefixSerializer,
        status=201,
    )
    @idempotent
    def post(self, _: Request) -> Response:
        """Grow the tenant's own prefix from a shared version; a worker does it next, and scores both."""
        tenant, body = self.principal.tenant, self.body(NewPersonalPrefixSerializer)
        assert tenant is not None  # TenantOnly
        enrolment = visibility.place(federation=self.federation, tenant=tenant)
        wanted = body.pop("version", None)
        version = (
            visibility.published(federation=self.federation).version
            if wanted is None
            else pick(visibility.prefix_versions, wanted)
        )
        body["rule"] = PersonalRule(body["rule"])
        return self.made(
            PersonalPrefixSerializer, grow_personal_prefix(enrolment=enrolment, version=version, **body)
        )


class PersonalPrefixView(ApiView):
    """The base of views below `/personal-prefixes/{id}`."""

    only: ClassVar = _FOR_TENANTS
    personal_prefix: PersonalPrefix

    def load(self, personal_prefix_id: str) -> None:  # type: ignore[override]
        """Among those that the caller sees."""
        rows = visibility.personal_prefixes().select_related("tenant", "version__federation__base_model")
        self.personal_prefix = PersonalPrefix.pick(rows, personal_prefix_id)


class OnePersonalPrefix(PersonalPrefixView):
    """`/personal-prefixes/{id}`."""

    resource = Resource.ENROLMENTS

    @operation("read_personal_prefix", tag="personal-prefixes", answer=PersonalPrefixSerializer)
    def get(self, _: Request) -> Response:
        """Read a personal prefix's record."""
        return Response(PersonalPrefixSerializer(self.personal_prefix).data)

    @operation("delete_personal_prefix", tag="personal-prefixes", status=204)
    def delete(self, _: Request) -> Response:
        """Delete a personal prefix with its bytes; one that is being grown is called off."""
        delete_personal_prefix(personal_prefix=self.personal_prefix)
        return Response(status=204)


class PersonalPrefixArchive(PersonalPrefixView):
    """`/personal-prefixes/{id}/archive`."""

    resource = Resource.PREFIX_VERSIONS

    @extend_schema(
        operation_id="download_personal_prefix",
        tags=["personal-prefixes"],
        responses={
            (HTTPStatus.OK, "application/zip"): OpenApiTypes.BINARY,
            (HTTPStatus.CONFLICT, "application/problem+json"): ProblemSerializer,  # it is not completed
        },
    )
    def get(self, request: Request) -> FileResponse:
        """Download it as a shared version is downloaded: an adapter's directory in a zip, which plain PEFT loads.

        By the rule `prior` the tensors are the shared version's, and `prelude.json` says what is added to the logits.
        """
        content = read_content(self.personal_prefix)
        archive = build_personal_archive(personal_prefix=self.personal_prefix, content=content)
        if request.method == "GET":
            with scoping.tenant(self.personal_prefix.tenant_id):  # a GET's own scope is for reading
                usage.add({self.personal_prefix.tenant_id: usage.Amount(sent_bytes=archive.size_bytes)})
        return FileResponse(
            archive.file,
            content_type="application/zip",
            headers={
                "Content-Disposition": f'attachment; filename="{archive.file_name}"',
                "Repr-Digest": archive.repr_digest,
                "Cache-Control": "private, no-store",  # it can tell the tenant's text
            },
        )
