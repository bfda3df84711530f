"""The engine's version, semantic: said here alone; pyproject.toml, `v2f --version` and manifests read it.

A change of the bytes that a command makes, or of a manifest's schema, is at least a minor version while the first
number is 0; `CHANGELOG.md` names each.
"""

VERSION = "0.2.0"
