"""Tenants: who owns data and who may do what."""
