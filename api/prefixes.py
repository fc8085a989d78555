"""Prefix versions: read, downloaded as a PEFT adapter, and the pointer to the published one."""

from http import HTTPStatus
from typing import Any, ClassVar, TypedDict

from django.http import FileResponse, HttpResponse, HttpResponseBase
from django.utils.cache import get_conditional_response
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from api.federations import FederationView
from api.fields import Body, PublicIdField
from api.idempotency import idempotent
from api.permissions import OperatorOnly
from api.preconditions import conditional
from api.rows import RowSerializer
from api.schema import operation, paged
from api.views import ApiView
from federation.archive import Archive, build_archive
from federation.models import FederatedRound, Federation, PrefixVersion, PublishedPrefix
from federation.selectors import measures, visibility
from federation.services.prefixes import roll_back
from tenants import scoping
from tenants.lookups import pick
from tenants.rights import Resource
from tenants.services import usage


class Scores(TypedDict):
    """Held-out accuracy over completed evaluations that the caller may see: a tenant's are its own."""

    mean: float
    worst: float
    n_evaluations: int
    n_rows: int


class PrefixVersionSerializer(RowSerializer[PrefixVersion]):
    """An immutable prefix. `context["measures"]` holds `measures.score_versions` of the rows."""

    id = PublicIdField(PrefixVersion)
    federation = PublicIdField(Federation, source="federation_id")
    number = serializers.IntegerField()
    sha256 = serializers.CharField()
    size_bytes = serializers.IntegerField()
    n_contributors = serializers.IntegerField()
    parent = PublicIdField(  # type: ignore[assignment]  # hides Field.parent
        PrefixVersion, source="parent_id", allow_null=True
    )
    round = PublicIdField(FederatedRound, source="made_in_round.id", allow_null=True)
    is_published = serializers.SerializerMethodField()
    scores = serializers.SerializerMethodField()
    created_at = serializers.DateTimeField()

    def get_is_published(self, row: PrefixVersion) -> bool:
        """Whether the federation's pointer names it now."""
        pointer = getattr(row.federation, "published", None)
        return pointer is not None and pointer.version_id == row.pk

    def get_scores(self, row: PrefixVersion) -> Scores | None:
        """Nothing before the first evaluation is completed."""
        scores: dict[object, measures.VersionScores] = self.context["measures"]
        return _scores(scores[row.pk]) if row.pk in scores else None


class PublishedSerializer(RowSerializer[PublishedPrefix]):
    """The pointer to the version that a federation's tenants use."""

    version = PublicIdField(PrefixVersion, source="version_id")
    published_at = serializers.DateTimeField()


class RollBackSerializer(Body):
    """Which version to publish again."""

    version = PublicIdField(PrefixVersion)


class PrefixVersions(FederationView):
    """`/federations/{id}/prefix-versions`."""

    resource = Resource.PREFIX_VERSIONS

    @paged("list_prefix_versions", tag="prefix-versions", rows=PrefixVersionSerializer)
    def get(self, _: Request) -> Response:
        """List a federation's versions, the newest first."""
        rows = visibility.prefix_versions().filter(federation=self.federation)
        return self.page(rows, PrefixVersionSerializer, measure=measures.score_versions)


class PublishedView(FederationView):
    """The base of views of a federation's pointer."""

    def hold(self) -> None:
        """The pointer's row. Raises NotFound."""
        visibility.published(federation=self.federation).lock()

    def representation(self) -> Any:
        """The pointer. Raises NotFound."""
        return PublishedSerializer(visibility.published(federation=self.federation)).data


class Published(PublishedView):
    """`/federations/{id}/published`."""

    resource = Resource.PREFIX_VERSIONS

    @operation("read_published", tag="prefix-versions", answer=PublishedSerializer)
    @conditional
    def get(self, _: Request) -> Response:
        """Read the pointer; there is none before the start prefix is prepared."""
        return Response(self.representation())


class RollBack(PublishedView):
    """`/federations/{id}/roll-back`."""

    resource = Resource.PREFIX_VERSIONS
    only: ClassVar = {"POST": OperatorOnly}

    @operation("roll_back", tag="prefix-versions", body=RollBackSerializer, answer=PublishedSerializer)
    @idempotent
    @conditional
    def post(self, _: Request) -> Response:
        """Publish another version of the federation; it is a publication on record like any other.

        The ETag is that of the pointer, as `read_published` answers it.
        """
        wanted = self.body(RollBackSerializer)["version"]
        version = pick(visibility.prefix_versions, wanted)
        roll_back(federation=self.federation, version=version, actor=self.principal.actor)
        return Response(self.representation())


class PrefixVersionView(ApiView):
    """The base of views below `/prefix-versions/{id}`."""

    version: PrefixVersion

    def load(self, version_id: str) -> None:  # type: ignore[override]
        """Among those that the caller sees."""
        rows = visibility.prefix_versions().select_related("federation__base_model")
        self.version = PrefixVersion.pick(rows, version_id)


class OnePrefixVersion(PrefixVersionView):
    """`/prefix-versions/{id}`."""

    resource = Resource.PREFIX_VERSIONS

    @operation("read_prefix_version", tag="prefix-versions", answer=PrefixVersionSerializer)
    def get(self, _: Request) -> Response:
        """Read a version."""
        context = {"measures": measures.score_versions([self.version])}
        return Response(PrefixVersionSerializer(self.version, context=context).data)


class PrefixVersionArchive(PrefixVersionView):
    """`/prefix-versions/{id}/archive`."""

    resource = Resource.PREFIX_VERSIONS

    @extend_schema(
        operation_id="download_prefix_version",
        tags=["prefix-versions"],
        parameters=[OpenApiParameter("If-None-Match", str, OpenApiParameter.HEADER)],
        responses={
            (200, "application/zip"): OpenApiTypes.BINARY,
            304: OpenApiResponse(description="The caller's copy is this archive."),
        },
    )
    def get(self, request: Request) -> HttpResponseBase:
        """Download a version as an adapter's directory in a zip, which plain PEFT loads."""
        archive = build_archive(version=self.version)
        headers = _headers(archive, self.version)
        answer = get_conditional_response(
            request._request, etag=archive.etag, response=HttpResponse(headers=headers)
        )
        assert answer is not None
        if answer.status_code != HTTPStatus.OK:
            archive.file.close()
            return answer
        if request.method == "HEAD":
            archive.file.close()
            told = {**headers, "Content-Length": str(archive.size_bytes)}
            return HttpResponse(content_type="application/zip", headers=told)
        tenant = self.principal.tenant
        if tenant is not None:
            with scoping.tenant(tenant.pk):  # a GET's own scope is for reading
                usage.add({tenant.pk: usage.Amount(sent_bytes=archive.size_bytes)})
        return FileResponse(archive.file, content_type="application/zip", headers=headers)


def _scores(measured: measures.VersionScores) -> Scores:
    return Scores(
        mean=measured.mean,
        worst=measured.worst,
        n_evaluations=measured.n_evaluations,
        n_rows=measured.n_rows,
    )


def _headers(archive: Archive, version: PrefixVersion) -> dict[str, str]:
    return {
        "Content-Disposition": f'attachment; filename="{archive.file_name}"',
        "Repr-Digest": archive.repr_digest,
        "X-Prelude-Prefix-Sha256": version.sha256,
        "ETag": archive.etag,
        "Cache-Control": "private, no-cache",  # may be kept, and is asked for again: access may end
    }
