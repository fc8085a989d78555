"""The whole platform on one machine: PostgreSQL, Valkey and every process of Prelude, supervised.

For development, the demo and the end-to-end test. Production brings its own servers by URL and installs
none of this.
"""
