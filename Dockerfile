# v2f on a CPU. `make image`, or: docker build -t v2f-engine .
#
#     docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/data" v2f-engine generate --ids 100 --images 10 --out faces
#
# What is made lies in the folder mounted at /data; the sets name themselves by the seed, so nothing else has to be kept.

ARG BASE=python:3.12-slim

FROM ${BASE} AS build
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends g++ \
 && rm -rf /var/lib/apt/lists/*
# A torch without CUDA is 0.2 GB to fetch instead of 3: `make image TORCH_INDEX=...` with the CPU index of PyTorch's own page of
# installation. Empty, it takes the ordinary index.
ARG TORCH_INDEX=
WORKDIR /src
COPY constraints.txt ./
RUN python3 -m venv /opt/v2f \
 && /opt/v2f/bin/pip install --no-cache-dir --upgrade pip \
 && /opt/v2f/bin/pip install --no-cache-dir -c constraints.txt ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} torch
COPY pyproject.toml setup.py MANIFEST.in README.md LICENSE CHANGELOG.md CITATION.cff ./
COPY csrc csrc
COPY kernels kernels
COPY v2f_engine v2f_engine
ARG EXTRAS=parquet,rendered,hub
RUN /opt/v2f/bin/pip wheel --no-cache-dir --no-deps --wheel-dir /wheels . \
 && /opt/v2f/bin/pip install --no-cache-dir -c constraints.txt "$(echo /wheels/v2f_engine-*.whl)[${EXTRAS}]" \
 && /opt/v2f/bin/python -c "import torch, v2f_kernels._C"

FROM ${BASE}
ARG VERSION=unknown
LABEL org.opencontainers.image.title="v2f-engine" \
      org.opencontainers.image.description="Face-recognition training sets of people who do not exist, on a CPU" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"
# libgomp1: the compiled extension's threads.
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends libgomp1 \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --create-home --uid 1000 v2f \
 && mkdir -p /data /cache \
 && chown v2f:v2f /data \
 && chmod 1777 /cache
COPY --from=build /opt/v2f /opt/v2f
# What is kept from start to start: numba's renderer, matplotlib's fonts, weights that were fetched.
ENV PATH=/opt/v2f/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/cache \
    XDG_CACHE_HOME=/cache \
    NUMBA_CACHE_DIR=/cache/numba \
    MPLCONFIGDIR=/cache/matplotlib \
    HF_HOME=/cache/huggingface
USER v2f
WORKDIR /data
VOLUME ["/cache"]
ENTRYPOINT ["v2f"]
CMD ["--help"]
