"""The console's own users and their groups: who may sign in, and what each may see or do. Each change is on record."""

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.contrib.auth import admin as auth_admin
from django.contrib.auth.models import Group, User
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from tenants.admin.rows import ModelAdmin
from tenants.services import accounts

if TYPE_CHECKING:
    UserAdmin = auth_admin.UserAdmin[User]
    Mixin = ModelAdmin
else:
    UserAdmin = auth_admin.UserAdmin
    Mixin = object

admin.site.unregister([User, Group])


class PasswordForm(AdminPasswordChangeForm):  # type: ignore[misc]  # Unfold has no types
    """Sets another's password, which `PasswordsOnRecord` is told, or takes it away."""

    def save(self, commit: bool = True) -> User:
        """Tell what Django tells nobody: that there is no password any more."""
        user: User = super().save(commit)
        if not user.has_usable_password():
            accounts.record_password_removed(user)
        return user


class OnRecord(Mixin):
    """Rows that Django's own forms write: what they were and became goes on record with the change."""

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Remember what it was."""
        form.before = accounts.facts(type(obj).objects.get(pk=obj.pk)) if change else None
        super().save_model(request, obj, form, change)

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        """Groups and permissions are saved last."""
        super().save_related(request, form, formsets, change)
        accounts.record_saved(form.instance, before=form.before)

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        """From its own page."""
        accounts.record_deleted(obj)
        super().delete_model(request, obj)

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """From the list."""
        for account in queryset:
            accounts.record_deleted(account)
        super().delete_queryset(request, queryset)


@admin.register(User)
class UserRows(OnRecord, UserAdmin, ModelAdmin):
    """Accounts. Staff may sign in here; view permissions alone let nobody start, cancel or roll back anything."""

    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = PasswordForm
    list_display = ("username", "email", "is_active", "is_staff", "is_superuser", "last_login")


@admin.register(Group)
class GroupRows(OnRecord, auth_admin.GroupAdmin, ModelAdmin):
    """Sets of permissions."""
