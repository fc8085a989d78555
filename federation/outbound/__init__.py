"""Requests to addresses that customers chose: which of them may be reached, and how. No Django, no database."""
