# The images of the mesh, a target for each: docs/images.md.
#
#   docker build --target llm --tag voicemesh/llm:0.1.0 .
#
# The same source, BASE and SOURCE_DATE_EPOCH give the same image.

# Another tag of Debian bookworm: give it with its digest, and renew deploy/images/debian-*.lock.
ARG BASE=docker.io/library/debian:bookworm-slim@sha256:88200866dfff7ea7f5cbcb6ec7c8a701889efe6fe859fe64d6990e4b07ea4171

# ---- what every image stands on: Python, and who runs in it --------------------------------------

FROM ${BASE} AS python
# An archive that still has the versions of the lock files; "": the base's own sources.
ARG DEBIAN_MIRROR=""
# Nothing in an image needs to become somebody else, so no file may help with it.
RUN --mount=type=bind,source=deploy/images,target=/tmp/images \
    /tmp/images/install-debian.sh /tmp/images/debian-python.lock \
    && /tmp/images/compile.sh /usr/lib/python3.11 \
    && find / -xdev -type f -perm /6000 -exec chmod a-s {} + \
    && echo voicemesh:x:10001: >>/etc/group \
    && echo voicemesh:x:10001:10001::/nonexistent:/usr/sbin/nologin >>/etc/passwd

# ---- what builds: in no image ---------------------------------------------------------------------

FROM python AS build
ARG DEBIAN_MIRROR=""
ARG SOURCE_DATE_EPOCH=0
ENV SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH}
RUN --mount=type=bind,source=deploy/images,target=/tmp/images \
    /tmp/images/install-debian.sh /tmp/images/debian-build.lock
RUN --mount=type=bind,source=deploy/images,target=/tmp/images --mount=type=secret,id=pip.conf \
    [ ! -f /run/secrets/pip.conf ] || export PIP_CONFIG_FILE=/run/secrets/pip.conf; \
    python3.11 -m pip --quiet --no-cache-dir install --no-deps --require-hashes --only-binary :all: \
    --target /opt/build --requirement /tmp/images/build.lock

FROM build AS code
COPY pyproject.toml README.md LICENSE /source/
COPY voicemesh /source/voicemesh
COPY services /source/services
COPY gateway /source/gateway
RUN --mount=type=bind,source=deploy/images,target=/tmp/images /tmp/images/arrange-code.sh /source

FROM build AS gateway-packages
RUN --mount=type=bind,source=deploy/images,target=/tmp/images --mount=type=secret,id=pip.conf \
    /tmp/images/install-packages.sh /tmp/images/gateway.lock

FROM build AS llm-packages
RUN --mount=type=bind,source=deploy/images,target=/tmp/images --mount=type=secret,id=pip.conf \
    /tmp/images/install-packages.sh /tmp/images/llm.lock

FROM build AS chunker-packages
RUN --mount=type=bind,source=deploy/images,target=/tmp/images --mount=type=secret,id=pip.conf \
    /tmp/images/install-packages.sh /tmp/images/chunker.lock

FROM build AS tts-packages
RUN --mount=type=bind,source=deploy/images,target=/tmp/images --mount=type=secret,id=pip.conf \
    /tmp/images/install-packages.sh /tmp/images/tts.lock

FROM build AS tts-coqui-cpu-packages
RUN --mount=type=bind,source=deploy/images,target=/tmp/images --mount=type=secret,id=pip.conf \
    /tmp/images/install-packages.sh /tmp/images/tts-coqui-cpu.lock

FROM build AS tts-coqui-cuda-packages
RUN --mount=type=bind,source=deploy/images,target=/tmp/images --mount=type=secret,id=pip.conf \
    /tmp/images/install-packages.sh /tmp/images/tts-coqui-cuda.lock

FROM build AS cache-packages
RUN --mount=type=bind,source=deploy/images,target=/tmp/images --mount=type=secret,id=pip.conf \
    /tmp/images/install-packages.sh /tmp/images/cache.lock

FROM build AS cli-packages
RUN --mount=type=bind,source=deploy/images,target=/tmp/images --mount=type=secret,id=pip.conf \
    /tmp/images/install-packages.sh /tmp/images/cli.lock

# ---- the images -----------------------------------------------------------------------------------

# Only /tmp may be written to. No HEALTHCHECK: each would start a Python with gRPC, a third of a second of CPU;
# Kubernetes asks by gRPC itself. Signals reach Python, which is process 1 and drains: there is no shell before it.
FROM python AS process
ARG BASE
ARG VERSION=""
ARG REVISION=""
ENV PATH=/opt/mesh/bin:/opt/voicemesh/bin:/usr/bin:/bin \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONPATH=/opt/mesh \
    PYTHONSAFEPATH=1
LABEL org.opencontainers.image.vendor="voicemesh" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.base.name="${BASE}" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}"
WORKDIR /
USER 10001:10001

FROM process AS gateway
LABEL org.opencontainers.image.title="voicemesh gateway" \
    org.opencontainers.image.description="The edge of the mesh: gRPC, the OpenAI-compatible API and the live page"
ENV VOICEMESH_GATEWAY_LISTEN=0.0.0.0:50050 VOICEMESH_HTTP_LISTEN=0.0.0.0:8080
EXPOSE 50050 8080
COPY --from=gateway-packages /opt/voicemesh /opt/voicemesh
COPY --from=code /code/gateway /opt/mesh
ENTRYPOINT ["/opt/voicemesh/bin/python", "-m", "gateway"]

FROM process AS llm
LABEL org.opencontainers.image.title="voicemesh LLM" \
    org.opencontainers.image.description="Replies of language models, in tokens"
ENV VOICEMESH_LLM_LISTEN=0.0.0.0:50051
EXPOSE 50051
COPY --from=llm-packages /opt/voicemesh /opt/voicemesh
COPY --from=code /code/llm /opt/mesh
ENTRYPOINT ["/opt/voicemesh/bin/python", "-m", "services.llm"]

FROM process AS chunker
LABEL org.opencontainers.image.title="voicemesh chunker" \
    org.opencontainers.image.description="Text to chunks that can be spoken"
ENV VOICEMESH_CHUNKER_LISTEN=0.0.0.0:50052
EXPOSE 50052
COPY --from=chunker-packages /opt/voicemesh /opt/voicemesh
COPY --from=code /code/chunker /opt/mesh
ENTRYPOINT ["/opt/voicemesh/bin/python", "-m", "services.chunker"]

FROM process AS cache
LABEL org.opencontainers.image.title="voicemesh cache" \
    org.opencontainers.image.description="Replies, audio and history that are worth keeping"
ENV VOICEMESH_CACHE_LISTEN=0.0.0.0:50054
EXPOSE 50054
COPY --from=cache-packages /opt/voicemesh /opt/voicemesh
COPY --from=code /code/cache /opt/mesh
ENTRYPOINT ["/opt/voicemesh/bin/python", "-m", "services.cache"]

FROM process AS speech
LABEL org.opencontainers.image.licenses="Apache-2.0 AND GPL-3.0-or-later"
ENV VOICEMESH_TTS_LISTEN=0.0.0.0:50053
EXPOSE 50053
ENTRYPOINT ["/opt/voicemesh/bin/python", "-m", "services.tts"]

FROM speech AS tts
LABEL org.opencontainers.image.title="voicemesh TTS" \
    org.opencontainers.image.description="Chunks to audio: espeak-ng, and servers that speak OpenAI's protocol"
COPY --from=tts-packages /opt/voicemesh /opt/voicemesh
COPY --from=code /code/tts /opt/mesh

# What Coqui's libraries would keep in a home of their own. Models are mounted at /models, and can be read alone.
FROM speech AS neural
LABEL org.opencontainers.image.licenses="Apache-2.0 AND GPL-3.0-or-later AND MPL-2.0 AND BSD-3-Clause"
ENV TTS_HOME=/models \
    HF_HOME=/tmp/huggingface \
    MPLCONFIGDIR=/tmp/matplotlib \
    NUMBA_CACHE_DIR=/tmp/numba \
    TORCH_HOME=/tmp/torch \
    XDG_CACHE_HOME=/tmp/cache

FROM neural AS tts-coqui-cpu
LABEL org.opencontainers.image.title="voicemesh TTS, Coqui on CPUs" \
    org.opencontainers.image.description="Chunks to audio: models of Coqui TTS on CPUs, and espeak-ng"
COPY --from=tts-coqui-cpu-packages /opt/voicemesh /opt/voicemesh
COPY --from=code /code/tts /opt/mesh

# The wheels hold CUDA's libraries; the driver is the node's, put in by NVIDIA's container runtime.
FROM neural AS tts-coqui-cuda
LABEL org.opencontainers.image.title="voicemesh TTS, Coqui on GPUs" \
    org.opencontainers.image.description="Chunks to audio: models of Coqui TTS on NVIDIA GPUs, and espeak-ng"
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    CUDA_CACHE_PATH=/tmp/cuda
COPY --from=tts-coqui-cuda-packages /opt/voicemesh /opt/voicemesh
COPY --from=code /code/tts /opt/mesh

FROM process AS cli
LABEL org.opencontainers.image.title="voicemesh command line" \
    org.opencontainers.image.description="Asks a mesh, explains its turns and measures it"
COPY --from=cli-packages /opt/voicemesh /opt/voicemesh
COPY --from=code /code/cli /opt/mesh
ENTRYPOINT ["/opt/mesh/bin/voicemesh"]
