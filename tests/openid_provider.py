"""The process of an OpenID provider, Canaille with its rows in memory: python -m tests.openid_provider PORT."""

import datetime
import sys
from typing import Any

from canaille import create_app
from canaille.app import models
from canaille.backends import Backend
from joserfc.jwk import RSAKey

from tests.openid import CALLBACK, CLIENT_ID, CLIENT_SECRET, PASSWORD, PEOPLE


def settings(port: int) -> dict[str, Any]:
    """No mail, no second factor, keys of its own."""
    return {
        "SECRET_KEY": "of a provider that lives for one test session",
        "SERVER_NAME": f"127.0.0.1:{port}",
        "PREFERRED_URL_SCHEME": "http",
        "CANAILLE_DATABASE": "memory",
        "CANAILLE": {"DATABASE": "memory", "JAVASCRIPT": False},
        "CANAILLE_OIDC": {
            "REQUIRE_NONCE": False,
            "TRUSTED_DOMAINS": [],
            "ACTIVE_JWKS": [RSAKey.generate_key(2048).as_dict(private=True)],
        },
    }


def add_people() -> None:
    """Everybody who can sign in there, and the console as a client."""
    for name, address, is_verified in PEOPLE:
        person = models.User(
            user_name=name,
            formatted_name=name,
            family_name=name,
            emails=[address],
            organization="verified" if is_verified else "unverified",
            password=PASSWORD,
        )
        Backend.instance.save(person)
    client = models.Client(
        client_id=CLIENT_ID,
        client_secret=CLIENT_SECRET,
        client_name="Prelude",
        client_uri="https://prelude.example",
        client_id_issued_at=datetime.datetime.now(datetime.UTC),
        redirect_uris=[f"http://testserver{CALLBACK}"],
        grant_types=["authorization_code"],
        response_types=["code"],
        scope=["openid", "profile", "email"],
        token_endpoint_auth_method="client_secret_post",
    )
    Backend.instance.save(client)
    client.audience = [client]
    Backend.instance.save(client)


def main(port: int) -> None:
    """Serve until killed."""
    app = create_app(config=settings(port))
    # Canaille's settings know no such claim; its provider fills in any that is mapped, as text.
    claim = "{{ 'true' if user.organization == 'verified' else 'false' }}"
    app.config["CANAILLE_OIDC"]["USERINFO_MAPPING"]["EMAIL_VERIFIED"] = claim
    with app.app_context(), Backend.instance.session():
        add_people()
    app.run(host="127.0.0.1", port=port, threaded=False)


if __name__ == "__main__":
    main(int(sys.argv[1]))
