"""Builds the optional compiled extension `v2f_kernels._C`; all metadata lives in pyproject.toml.

Nothing is downloaded. Without a C++ compiler or pybind11 the package installs without the extension and the
`native` backends report themselves unavailable; V2F_NO_EXTENSION=1 skips the attempt.

The CUDA sources are package data, not part of the extension: they are compiled at run time by NVRTC for the
device at hand (and, in tests, by NVRTC and nvcc for every supported one), so that one wheel serves all GPUs
and building it needs no CUDA.
"""

import os
import sys
from pathlib import Path

from setuptools import find_namespace_packages, setup

ROOT = Path(__file__).parent


def extensions() -> list:
    sources = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "csrc").glob("*.cpp"))
    if os.environ.get("V2F_NO_EXTENSION") or not sources:
        return []
    try:
        from pybind11.setup_helpers import Pybind11Extension
    except ImportError:
        sys.stderr.write("pybind11 is missing: installing without the compiled extension\n")
        return []

    extension = Pybind11Extension(
        "v2f_kernels._C",
        sources,
        include_dirs=["csrc/include"],
        depends=[str(path.relative_to(ROOT)) for path in (ROOT / "csrc/include").rglob("*.h")],
        cxx_std=17,
        # No -march: each kernel is compiled for its own target and chosen at run time.
        extra_compile_args=["-O3", "-fopenmp", "-ffp-contract=off"],
        extra_link_args=["-fopenmp"],
    )
    extension.optional = True
    return [extension]


setup(
    # Namespaces as well: folders of assets without an `__init__.py` are packages to setuptools, which warns of each.
    packages=[
        *find_namespace_packages(".", include=["v2f_engine", "v2f_engine.*"], exclude=["*.__pycache__*"]),
        *find_namespace_packages("kernels", exclude=["*.__pycache__*"]),
    ],
    package_data={
        "v2f_engine": ["py.typed", "assets/**/*", "ui/static/*"],
        "v2f_kernels": ["py.typed", "tuned/*.json", "*/*.cu", "_cuda/*.cuh"],
    },
    ext_modules=extensions(),
)
