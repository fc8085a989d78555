"""Django's settings."""

from pathlib import Path
from typing import Any

from deploy.settings.console import UNFOLD as UNFOLD
from deploy.settings.environment import Environment, database, openid_connect
from deploy.settings.logging import LOGGING as LOGGING
from deploy.settings.logging import configure_structlog

ENVIRONMENT = Environment()
configure_structlog(ENVIRONMENT.log_level)

BASE_DIR = Path(__file__).resolve().parents[2]
SECRET_KEY = ENVIRONMENT.secret_key.get_secret_value()
MASTER_KEY = ENVIRONMENT.master_key
KEY_PEPPER = ENVIRONMENT.key_pepper
DEBUG = ENVIRONMENT.debug
ALLOWED_HOSTS = [host.strip() for host in ENVIRONMENT.allowed_hosts.split(",") if host.strip()]
TRUSTED_PROXIES = ENVIRONMENT.trusted_proxies  # whose X-Forwarded-For is believed
CSRF_TRUSTED_ORIGINS = [ENVIRONMENT.public_url] if ENVIRONMENT.public_url else []

INSTALLED_APPS = [
    "unfold.apps.BasicAppConfig",
    "deploy.console_app.ConsoleConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "allauth.socialaccount",
    "allauth.socialaccount.providers.openid_connect",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "tenants",
    "federation",
    "training_workers",
    "api",
    "deploy",
]
MIDDLEWARE = [
    "api.request_ids.RequestIdMiddleware",
    "api.probes.ProbesMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "deploy.content_policy.ContentPolicyMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "deploy.console_sessions.SessionLimitsMiddleware",
    "deploy.console_sessions.SecondFactorMiddleware",
    "deploy.console_scope.ConsoleScopeMiddleware",
]
TEMPLATES: list[dict[str, Any]] = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "deploy.console_membership.context",
            ],
            "libraries": {"console": "tenants.admin.tags"},
        },
    }
]
ROOT_URLCONF = "deploy.urls"
WSGI_APPLICATION = "deploy.wsgi.application"

DATABASES = {"default": database(ENVIRONMENT.database_url)}
if ENVIRONMENT.owner_database_url is not None:  # only where migrations run
    DATABASES["owner"] = database(ENVIRONMENT.owner_database_url)
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

AUTHENTICATION_BACKENDS = [
    "deploy.console_rights.MemberRights",
    "django.contrib.auth.backends.ModelBackend",
]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.Argon2PasswordHasher"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "tenants.services.accounts.PasswordsOnRecord"},
]

SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_SSL_REDIRECT = ENVIRONMENT.https_only
SECURE_HSTS_SECONDS = 31_536_000 if ENVIRONMENT.https_only else 0
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if ENVIRONMENT.https_only else None
# Whether hosts below ours speak https, and whether browsers' makers may list us, is for their owners to say.
SILENCED_SYSTEM_CHECKS = ["security.W005", "security.W021"]
if ENVIRONMENT.https_only:  # a browser takes these names from this host alone, over https, for all paths
    SESSION_COOKIE_NAME, CSRF_COOKIE_NAME = "__Host-session", "__Host-csrf"
SESSION_COOKIE_HTTPONLY = CSRF_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
SESSION_EXPIRE_AT_BROWSER_CLOSE = True
SESSION_COOKIE_AGE = SESSION_LIFETIME_SECONDS = ENVIRONMENT.session_lifetime_seconds
SESSION_IDLE_SECONDS = ENVIRONMENT.session_idle_seconds
SECURE_REFERRER_POLICY = SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"

CACHES = {"default": {"BACKEND": "deploy.shared_cache.SharedCache"}}  # lock-outs, and codes that were used

LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "admin:index"
REQUIRE_TOTP = ENVIRONMENT.require_totp
OIDC_ISSUER = ENVIRONMENT.oidc_issuer
OIDC_PROVIDER_ID = ENVIRONMENT.oidc_provider_id
OIDC_TRUSTED_FOR_MFA = ENVIRONMENT.oidc_trusted_for_mfa
SIGN_IN_LOCK_SECONDS = ENVIRONMENT.sign_in_lock_seconds
ACCOUNT_ADAPTER = "tenants.admin.signing_in.adapters.AccountAdapter"
ACCOUNT_LOGIN_METHODS = {"username"}
ACCOUNT_SIGNUP_FIELDS = ["username*", "password1*"]
ACCOUNT_EMAIL_VERIFICATION = "none"
ACCOUNT_LOGOUT_REDIRECT_URL = "account_login"
ACCOUNT_SESSION_REMEMBER = False
ACCOUNT_RATE_LIMITS = {
    "login": None,  # what is locked out is refused before a password is hashed
    "reauthenticate": None,
    "login_failed": f"{ENVIRONMENT.sign_in_failures_per_account}/{SIGN_IN_LOCK_SECONDS}s/key",
    "address_failed": f"{ENVIRONMENT.sign_in_failures_per_address}/{SIGN_IN_LOCK_SECONDS}s/ip",
}
MFA_ADAPTER = "tenants.admin.signing_in.adapters.SecondFactorAdapter"
MFA_ALLOW_UNVERIFIED_EMAIL = True  # operators make the accounts: nobody claims an address here
MFA_RECOVERY_CODES_SHOW_ONCE = True
MFA_TOTP_ISSUER = "Prelude"
SOCIALACCOUNT_ADAPTER = "tenants.admin.signing_in.adapters.ProviderAdapter"
SOCIALACCOUNT_PROVIDERS = openid_connect(ENVIRONMENT)

LANGUAGE_CODE = "en"
FORMAT_MODULE_PATH = ["deploy.settings.formats"]
TIME_ZONE = "UTC"
USE_TZ = True
STATIC_URL = "static/"
STATIC_ROOT = ENVIRONMENT.static_root

DATA_UPLOAD_MAX_MEMORY_SIZE = 2**20  # of what is not a file
FILE_UPLOAD_HANDLERS = ["django.core.files.uploadhandler.MemoryFileUploadHandler"]  # datasets bring their own
MAX_DATASET_BYTES = ENVIRONMENT.max_dataset_bytes
BASE_MODELS_ROOT = ENVIRONMENT.base_models_root


def _blob_storage() -> dict[str, Any]:
    if ENVIRONMENT.storage_bucket:
        options: dict[str, Any] = {
            "bucket_name": ENVIRONMENT.storage_bucket,
            "endpoint_url": ENVIRONMENT.storage_endpoint_url,
        }
        # What is read is held on the disk beyond this; by default it would be in memory as a whole.
        options |= {"file_overwrite": True, "max_memory_size": 16 * 2**20}
        return {"BACKEND": "storages.backends.s3.S3Storage", "OPTIONS": options}
    location = ENVIRONMENT.storage_root
    return {"BACKEND": "tenants.storage.AtomicFileSystemStorage", "OPTIONS": {"location": location}}


STORAGES = {
    "default": _blob_storage(),
    "blobs": _blob_storage(),
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}

LEASE_SECONDS = ENVIRONMENT.lease_seconds
BEAT_SECONDS = ENVIRONMENT.beat_seconds
STALL_SECONDS = ENVIRONMENT.stall_seconds
RESEND_SECONDS = ENVIRONMENT.resend_seconds
RECONCILE_SECONDS = ENVIRONMENT.reconcile_seconds
MAX_ATTEMPTS = ENVIRONMENT.max_attempts
BROKER_URL = ENVIRONMENT.broker_url
WEBHOOK_PRIVATE_NETWORKS = ENVIRONMENT.webhook_private_networks
EVENT_STREAM_SECONDS = ENVIRONMENT.event_stream_seconds
MAX_EVENT_STREAMS = ENVIRONMENT.max_event_streams
WEBHOOK_ALLOW_HTTP = ENVIRONMENT.webhook_allow_http

REST_FRAMEWORK: dict[str, Any] = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["api.authentication.ApiKeyAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["api.parsers.JsonParser"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "api.errors.handle",
}
SPECTACULAR_SETTINGS: dict[str, Any] = {
    "TITLE": "Prelude",
    "DESCRIPTION": "Federated customization of large models as a multi-tenant service.",
    "VERSION": "1",
    "DEFAULT_GENERATOR_CLASS": "api.schema.DrawnOnce",
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
    "SERVE_AUTHENTICATION": [],
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
    "OAS_VERSION": "3.1.0",
    "COMPONENT_SPLIT_REQUEST": True,
    "SCHEMA_PATH_PREFIX": "/api/v1/",
    "ENUM_NAME_OVERRIDES": {
        "ActorKind": "tenants.states.ActorKind",
        "BaseModelState": "federation.states.BaseModelState",
        "BroadcastDtype": ["float32", "float16", "int8"],
        "CampaignState": "federation.states.CampaignState",
        "DatasetFormat": "tenants.states.DatasetFormat",
        "DatasetState": "tenants.states.DatasetState",
        "DeliveryState": "federation.states.DeliveryState",
        "EnrolmentState": "federation.states.EnrolmentState",
        "EvaluationState": "federation.states.EvaluationState",
        "FederationState": "federation.states.FederationState",
        "LocalRunState": "federation.states.LocalRunState",
        "Optimizer": ["adamw", "sgd"],
        "PersonalRule": "federation.states.PersonalRule",
        "PrincipalKind": "api.authentication.PrincipalKind",
        "Priority": "federation.states.Priority",
        "Right": "tenants.rights.RIGHT_CHOICES",
        "Role": "tenants.states.Role",
        "RoundState": "federation.states.RoundState",
        "TenantState": "tenants.states.TenantState",
        "UploadDtype": ["float32", "float16", "int8", "int4"],
        "WebhookState": "federation.states.WebhookState",
    },
}
