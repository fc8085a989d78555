"""Signing in to the console: password and TOTP, or an OpenID provider; allauth's flows on Unfold's pages."""
