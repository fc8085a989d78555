"""The key that all other keys hang from."""

import base64

from django.conf import settings


def master_key() -> bytes:
    """The platform's key-encryption key, 32 bytes from the environment."""
    return base64.b64decode(settings.MASTER_KEY.get_secret_value())
