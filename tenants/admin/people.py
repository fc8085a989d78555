"""The console's own users and their groups: who may sign in, and what each may see or do."""

from typing import TYPE_CHECKING

from django.contrib import admin
from django.contrib.auth import admin as auth_admin
from django.contrib.auth.models import Group, User
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from tenants.admin.rows import ModelAdmin

if TYPE_CHECKING:
    UserAdmin = auth_admin.UserAdmin[User]
else:
    UserAdmin = auth_admin.UserAdmin

admin.site.unregister([User, Group])


@admin.register(User)
class UserRows(UserAdmin, ModelAdmin):
    """Accounts. Staff may sign in here; view permissions alone let nobody start, cancel or roll back anything."""

    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    list_display = ("username", "email", "is_active", "is_staff", "is_superuser", "last_login")


@admin.register(Group)
class GroupRows(auth_admin.GroupAdmin, ModelAdmin):
    """Sets of permissions."""
