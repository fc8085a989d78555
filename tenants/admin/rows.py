"""What the console's pages have in common: rows that only services write, found by public id, with coloured states."""

from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from django.contrib import admin, messages
from django.contrib.admin.options import IncorrectLookupParameters
from django.core.exceptions import PermissionDenied
from django.db import DataError, models, transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.views.decorators.http import require_POST

from tenants import scoping
from tenants.admin.forms import ServiceForm
from tenants.admin.row_actions import RowAction
from tenants.errors import NotFound, PreludeError
from tenants.ids import Identified

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[Any]
else:
    from unfold.admin import ModelAdmin

VARIANTS: dict[str, str] = {
    **dict.fromkeys(("ready", "active", "accepted", "published", "completed", "delivered"), "good"),
    **dict.fromkeys(("open", "training", "aggregating", "evaluating", "running", "submitted"), "live"),
    **dict.fromkeys(("validating", "registering", "preparing", "invited"), "live"),
    **dict.fromkeys(("kept", "suspended"), "warn"),
    **dict.fromkeys(("refused", "rejected", "failed", "revoked", "disabled"), "bad"),
}


def change_url(row: models.Model) -> str:
    """The console's page of a row."""
    return reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_change", args=[row.pk])


def link(row: models.Model) -> SafeString:
    """A link to the console's page of a row."""
    return format_html('<a class="prl-link" href="{}">{}</a>', change_url(row), row)


def badge(state: str) -> SafeString:
    """A state as a coloured label; the text tells it too."""
    return format_html('<span class="prl-badge prl-badge--{}">{}</span>', VARIANTS.get(state, "idle"), state)


def require(is_allowed: bool) -> None:
    """Raises PermissionDenied unless it is allowed."""
    if not is_allowed:
        raise PermissionDenied


def secret_shown_once(request: HttpRequest, row: models.Model, text: str) -> HttpResponse:
    """The only page that ever shows a new secret's text; it is answered directly and stored nowhere."""
    context = {**admin.site.each_context(request), "opts": row._meta, "original": row, "text": text}
    context |= {"title": f"Secret of the {row._meta.verbose_name}"}
    return TemplateResponse(
        request, "console/secret_once.html", context, headers={"Cache-Control": "no-store"}
    )


class ServiceRows(ModelAdmin):
    """Rows that services alone write: to be read here, and made only where there is a form that calls a service."""

    add_form: ClassVar[type[ServiceForm] | None] = None
    row_actions: ClassVar[tuple[RowAction, ...]] = ()
    # The selector of rows that are no tenant's. A tenant's rows need none: their manager knows the scope in force.
    visible: ClassVar["staticmethod[[], models.QuerySet[Any]] | None"] = None
    # Columns and fields that tell of the platform or of other tenants: members do not get them.
    platform_only: ClassVar[frozenset[str]] = frozenset({"lease_owner", "lease_expires_at"})
    # Those that are a tenant's alone, which no operator gets.
    members_only: ClassVar[frozenset[str]] = frozenset()
    members_add: ClassVar[bool] = False  # what a tenant makes itself: no operator does it in its place
    change_form_outer_before_template = "console/row_actions.html"
    ordering = ("-id",)
    list_per_page = 50
    actions = None

    @admin.display(description="ID")
    def identifier(self, row: Identified) -> SafeString:
        """The public id, as the API names the row."""
        return format_html('<code class="prl-mono">{}</code>', row.public_id)

    @admin.display(description="State", ordering="state")
    def state_badge(self, row: Any) -> SafeString:
        """The state, coloured."""
        return badge(row.state)

    def get_queryset(self, request: HttpRequest) -> models.QuerySet[Any]:
        """The rows that the scope in force may see."""
        if self.visible is None:
            return super().get_queryset(request)
        # What a selector loads along would keep `list_select_related` from being heeded.
        return self.visible().select_related(None).order_by(*self.get_ordering(request))

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """The list as it was asked for. Raises IncorrectLookupParameters, for which Django shows the whole list.

        Django finds values that no field could hold for some filters alone; other ones fail in the query.
        """
        try:
            with transaction.atomic():  # what follows needs the transaction
                return super().get_changelist_instance(request)
        except (DataError, OverflowError, ValueError) as error:
            raise IncorrectLookupParameters from error

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        """The columns that are for this person."""
        return self._shown(super().get_list_display(request))

    def get_fieldsets(self, request: HttpRequest, obj: models.Model | None = None) -> list[Any]:
        """The fields that are for this person, and no section without any."""
        fieldsets = super().get_fieldsets(request, obj)
        shown = [(title, options, self._shown(options["fields"])) for title, options in fieldsets]
        return [(title, {**options, "fields": fields}) for title, options, fields in shown if fields]

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        """Not by what this person does not see: a filter in the address would tell it bit by bit."""
        is_seen = self._shown([lookup.partition("__")[0]]) != []
        return is_seen and super().lookup_allowed(lookup, value, request)

    def _shown(self, names: Any) -> list[Any]:
        others = self.members_only if scoping.is_platform() else self.platform_only
        return [name for name in names if name not in others]

    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Django's own log of the console, which no wall divides by tenant: for the platform's people alone."""
        require(scoping.is_platform())
        return super().history_view(request, object_id, extra_context)

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Only where a form calls the service that makes such rows, and for those who make them."""
        if self.add_form is None or (self.members_add and scoping.is_platform()):
            return False
        return super().has_add_permission(request)

    def has_change_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        """Never by the generic form: rows change through services."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        """Never by the generic form."""
        return False

    def get_search_results(
        self, request: HttpRequest, queryset: models.QuerySet[Any], search_term: str
    ) -> tuple[models.QuerySet[Any], bool]:
        """A whole public id finds its row; anything else is looked for in the search fields."""
        if issubclass(self.model, Identified):
            try:
                return queryset.filter(pk=self.model.key_from(search_term.strip())), False
            except NotFound:
                pass
        return super().get_search_results(request, queryset, search_term)

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The form of the service that makes such a row: what was refused is at its field, what was done is told."""
        require(self.has_add_permission(request))
        assert self.add_form is not None
        form = self.add_form(request.POST or None, initial=request.GET.dict())
        if request.method == "POST" and (row := form.saved()) is not None:
            self.log_addition(request, row, form.told(row))
            return self.saved_response(request, form, row)
        context = {**self.admin_site.each_context(request), "opts": self.opts, "form": form}
        context["title"] = f"Add {self.opts.verbose_name}"
        return TemplateResponse(request, "console/form.html", context)

    def saved_response(self, request: HttpRequest, form: ServiceForm, row: models.Model) -> HttpResponse:
        """What follows a service's success: the page of the row."""
        messages.success(request, form.told(row))
        return redirect(change_url(row))

    def get_urls(self) -> list[URLPattern]:
        """The row actions' addresses, then the usual ones."""
        return [
            path(
                f"<uuid:object_id>/{action.name}/",
                self.admin_site.admin_view(require_POST(partial(self.act, action=action))),
                name=action.url_name(self.opts),
            )
            for action in self.row_actions
        ] + super().get_urls()

    def act(self, request: HttpRequest, object_id: str, action: RowAction) -> HttpResponse:
        """Do what a button says: told and logged when it is done, told when the service refuses it."""
        require(action.is_permitted(request))
        row = self.row_or_404(request, object_id)
        try:
            with transaction.atomic():
                done = action.perform(row, request)
        except PreludeError as refusal:
            messages.error(request, str(refusal))
            return redirect(change_url(row))
        self.log_change(request, row, done.told)
        messages.success(request, done.told)
        return done.page(request) if done.page else redirect(done.next_url)

    def row_or_404(self, request: HttpRequest, object_id: object) -> Any:
        """The row of an address. Raises Http404."""
        row = self.get_object(request, str(object_id))
        if row is None:
            raise Http404
        return row
