# kvcalc as a command: docker build -t kvcalc . && docker run --rm kvcalc size r1 128K
# A folder of plans: docker run --rm -v "$PWD:/work" kvcalc check plans/
FROM python:3.13-slim AS build
COPY . /source
RUN pip wheel --no-cache-dir --wheel-dir /wheels /source

FROM python:3.13-slim
RUN --mount=from=build,source=/wheels,target=/wheels \
    pip install --no-cache-dir --no-index --find-links /wheels kvcalc \
    && useradd --create-home kvcalc
USER kvcalc
WORKDIR /work
ENTRYPOINT ["kvcalc"]
