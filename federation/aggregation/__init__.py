"""How accepted updates become the next version, on files and in bounded memory: no Django, no torch."""
