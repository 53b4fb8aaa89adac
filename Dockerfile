# syntax=docker/dockerfile:1
#
# The server with the default model, for CPUs:
#     docker build -t tutti .
#     docker run --rm -p 8080:8080 tutti
#
# For NVIDIA GPUs, to run with --gpus all:
#     docker build -t tutti:cuda --build-arg FEATURES=cuda \
#         --build-arg BUILD_IMAGE=nvidia/cuda:12.8.1-devel-ubuntu24.04 \
#         --build-arg RUNTIME_IMAGE=nvidia/cuda:12.8.1-runtime-ubuntu24.04 \
#         --build-arg CUDA_COMPUTE_CAP=90 .
# CUDA_COMPUTE_CAP is the GPU's (80 for an A100, 90 for an H100): a build has no GPU to ask. The driver comes from
# the host and must speak the images' CUDA version or a later one.
#
# The training program in place of the server: --target train.

ARG RUST_IMAGE=rust:1.95-slim-bookworm
# Build and runtime image must have the same C library.
ARG BUILD_IMAGE=${RUST_IMAGE}
ARG RUNTIME_IMAGE=debian:bookworm-slim

FROM ${RUST_IMAGE} AS rust

FROM ${BUILD_IMAGE} AS source
# An image of another maker has a linker but no Rust.
COPY --from=rust /usr/local/rustup /usr/local/rustup
COPY --from=rust /usr/local/cargo /usr/local/cargo
ENV RUSTUP_HOME=/usr/local/rustup \
    CARGO_HOME=/usr/local/cargo \
    PATH=/usr/local/cargo/bin:$PATH
WORKDIR /src
COPY . .
ARG FEATURES=""
ARG CUDA_COMPUTE_CAP=""
# The caches outlive the layer, the programs must not lie in one of them. Features get a cache each,
# so that variants do not throw out one another's builds.

# Without the feature `train`: a server needs no plots, archives or progress bars.
FROM source AS build-serve
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,target=/src/target,id=tutti-target-${FEATURES},sharing=locked \
    if [ -n "$CUDA_COMPUTE_CAP" ]; then export CUDA_COMPUTE_CAP; else unset CUDA_COMPUTE_CAP; fi; \
    cargo build --release --locked --no-default-features --bin tutti --features "otlp,$FEATURES" \
    && install -D -t /out target/release/tutti

FROM source AS build-train
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,target=/src/target,id=tutti-target-${FEATURES},sharing=locked \
    if [ -n "$CUDA_COMPUTE_CAP" ]; then export CUDA_COMPUTE_CAP; else unset CUDA_COMPUTE_CAP; fi; \
    cargo build --release --locked --bin train --features "$FEATURES" \
    && install -D -t /out target/release/train

FROM ${RUNTIME_IMAGE} AS runtime
RUN groupadd --system --gid 10001 tutti \
    && useradd --system --uid 10001 --gid tutti --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin tutti
USER 10001:10001

FROM runtime AS train
COPY --from=build-train /out/train /usr/local/bin/train
WORKDIR /work
ENTRYPOINT ["train"]
CMD ["--help"]

FROM runtime AS serve
COPY --from=build-serve /out/tutti /usr/local/bin/tutti
COPY LICENSE /usr/share/doc/tutti/LICENSE
COPY config/server.toml /etc/tutti/server.toml
# Mount another file over the first to change settings; the environment beats it.
ENV TUTTI_CONFIG=/etc/tutti/server.toml \
    TUTTI_LISTEN=0.0.0.0:8080
EXPOSE 8080
STOPSIGNAL SIGTERM
# Asks /readyz at the address that the settings say.
HEALTHCHECK --interval=10s --timeout=6s --start-period=30s --retries=3 CMD ["tutti", "health"]
ENTRYPOINT ["tutti"]
CMD ["serve"]
