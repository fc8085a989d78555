"""Use cases of the tenants' side. Each runs within a scope that its caller entered."""
