"""Builds the optional compiled extension `v2f_kernels._C`; all metadata lives in pyproject.toml.

Nothing is downloaded. Without a C++ compiler the package installs without the extension and the
`native` backends report themselves unavailable; V2F_NO_EXTENSION=1 skips the attempt.
"""

import os
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent


def extensions() -> list:
    sources = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "csrc").glob("*.cpp"))
    if os.environ.get("V2F_NO_EXTENSION") or not sources:
        return []
    from pybind11.setup_helpers import Pybind11Extension

    extension = Pybind11Extension(
        "v2f_kernels._C",
        sources,
        include_dirs=["csrc/include"],
        cxx_std=17,
        # No -march: each kernel is compiled for its own target and chosen at run time.
        extra_compile_args=["-O3", "-fopenmp", "-ffp-contract=off"],
        extra_link_args=["-fopenmp"],
    )
    extension.optional = True
    return [extension]


setup(
    packages=[*find_packages(".", include=["v2f_engine", "v2f_engine.*"]), *find_packages("kernels")],
    package_data={"v2f_engine": ["assets/**/*"], "v2f_kernels": ["tuned/*.json"]},
    ext_modules=extensions(),
)
