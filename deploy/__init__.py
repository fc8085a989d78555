"""How Prelude runs: settings, Celery, WSGI, embedded servers, the demo."""
