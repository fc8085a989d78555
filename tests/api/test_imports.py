"""The web process stays small: no learning library is loaded with it, and none by any of its views."""

import os
import subprocess
import sys

_SCRIPT = """
import sys
import deploy.wsgi
from django.urls import get_resolver

def walk(resolver):
    for pattern in resolver.url_patterns:
        if hasattr(pattern, "url_patterns"):
            walk(pattern)
        else:
            assert pattern.callback

walk(get_resolver())
import api.errors
heavy = {"torch", "transformers", "peft", "numpy", "safetensors", "pyarrow"}
loaded = heavy & {name.partition(".")[0] for name in sys.modules}
# Django knows the training side for its command alone, by a package that holds nothing.
print(sorted(loaded | {name for name in sys.modules if name.startswith("training_workers.")}))
"""


def test_the_web_process_loads_no_learning_library() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT], env=dict(os.environ), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
