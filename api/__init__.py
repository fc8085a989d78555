"""HTTP and nothing else: authenticate, validate, call, serialise."""
