"""Use cases of the federation's side. Each runs within a scope that its caller entered."""
