"""Federations: base models, rounds, local runs, prefix versions. Imports neither torch nor HTTP."""
