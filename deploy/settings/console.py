"""How the console looks and what its sidebar leads to. Everything it shows comes from this machine."""

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest
from django.templatetags.static import static
from django.urls import reverse_lazy


def _may_view(model: str) -> Callable[[HttpRequest], bool]:
    app, _, name = model.partition(".")

    def is_permitted(request: HttpRequest) -> bool:
        return request.user.has_perm(f"{app}.view_{name}")

    return is_permitted


def _rows(title: str, icon: str, model: str) -> dict[str, Any]:
    link = reverse_lazy(f"admin:{model.replace('.', '_')}_changelist")
    return {"title": title, "icon": icon, "link": link, "permission": _may_view(model)}


_NAVIGATION: list[dict[str, Any]] = [
    {"items": [{"title": "Dashboard", "icon": "space_dashboard", "link": reverse_lazy("admin:index")}]},
    {
        "title": "Federated learning",
        "items": [
            _rows("Federations", "hub", "federation.federation"),
            _rows("Campaigns", "repeat", "federation.campaign"),
            _rows("Rounds", "cycle", "federation.federatedround"),
            _rows("Prefix versions", "layers", "federation.prefixversion"),
            _rows("Publish records", "receipt_long", "federation.publishrecord"),
            _rows("Schedules", "schedule", "federation.schedule"),
        ],
    },
    {
        "title": "Training side",
        "items": [
            _rows("Base models", "deployed_code", "federation.basemodel"),
            _rows("Local runs", "model_training", "federation.localrun"),
            _rows("Evaluations", "fact_check", "federation.evaluation"),
            _rows("Personal prefixes", "person_pin", "federation.personalprefix"),
        ],
    },
    {
        "title": "Tenants",
        "items": [
            _rows("Tenants", "apartment", "tenants.tenant"),
            _rows("Enrolments", "handshake", "federation.enrolment"),
            _rows("Datasets", "database", "tenants.dataset"),
            _rows("Memberships", "badge", "tenants.membership"),
            _rows("API keys", "key", "tenants.apikey"),
            _rows("Limits and usage", "speed", "tenants.tenantlimits"),
            _rows("Webhooks", "webhook", "federation.webhookendpoint"),
            _rows("Webhook deliveries", "outbox", "federation.webhookdelivery"),
        ],
    },
    {
        "title": "Console",
        "items": [
            _rows("Audit", "policy", "tenants.auditentry"),
            _rows("Users", "person", "auth.user"),
            _rows("Groups", "group", "auth.group"),
        ],
    },
]

_INDIGO = {
    "50": "oklch(96.2% .018 272.3)",
    "100": "oklch(93% .034 272.8)",
    "200": "oklch(87% .065 274)",
    "300": "oklch(78.5% .115 274.7)",
    "400": "oklch(67.3% .182 276.9)",
    "500": "oklch(58.5% .233 277.1)",
    "600": "oklch(51.1% .262 277)",
    "700": "oklch(45.7% .24 277)",
    "800": "oklch(39.8% .195 277.4)",
    "900": "oklch(35.9% .144 278.7)",
    "950": "oklch(25.7% .09 281.3)",
}

UNFOLD: dict[str, Any] = {
    "SITE_TITLE": "Prelude",
    "SITE_HEADER": "Prelude",
    "SITE_SUBHEADER": "Federated customization",
    "SITE_SYMBOL": "hub",
    "SITE_URL": None,
    "ENVIRONMENT": "deploy.console_membership.header",
    "SHOW_HISTORY": "deploy.console_membership.shows_history",
    "SITE_FAVICONS": [
        {"rel": "icon", "type": "image/svg+xml", "href": lambda request: static("console/icon.svg")}
    ],
    "COLORS": {"primary": _INDIGO},
    "STYLES": [lambda request: static("console/console.css")],
    "SCRIPTS": [lambda request: static("console/console.js"), lambda request: static("console/charts.js")],
    "DASHBOARD_CALLBACK": "federation.admin.dashboard.add_overview",
    "SIDEBAR": {"navigation": _NAVIGATION},
    "ACCOUNT": {
        "navigation": [
            {"title": "Change password", "link": reverse_lazy("admin:password_change")},
            {"title": "Second factor", "link": reverse_lazy("mfa_index")},
        ]
    },
}
