"""Tests, mirroring the packages: real PostgreSQL and Valkey, the database as the application's own role."""
