"""Who runs a management command, for the audit record."""

import os
import pwd

from tenants.acting import Actor
from tenants.states import ActorKind


def system_user() -> Actor:
    """The operating system's user that this process runs as, whatever its environment says."""
    user_id = os.getuid()
    try:
        name = pwd.getpwuid(user_id).pw_name
    except KeyError:  # containers often run as a number without a name
        name = str(user_id)
    return Actor(kind=ActorKind.SYSTEM_USER, id=f"uid_{user_id}", name=name)
