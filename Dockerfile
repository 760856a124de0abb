# soundbench on a CPU, with the extra `av` and ONNX Runtime: all commands, or a server alone. Run them as a user without rights:
#
#   docker build -t soundbench .
#   docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/sounds" soundbench run quickstart.toml
#   docker run --rm --user "$(id -u):$(id -g)" -v "$PWD:/sounds" soundbench infer runs/quickstart-* a.wav
#
#   docker build --target serve -t soundbench-serve .
#   docker run --rm -p 127.0.0.1:8000:8000 -v "$PWD/runs/mine:/models/mine:ro" soundbench-serve /models/mine
#
# Sounds, recipes and runs are in the folder that is /sounds in the container, decoded sound in its .cache. For a server,
# `-e SOUNDBENCH_TOKEN` passes on the token of the environment; `--stop-timeout 130` lets what is running finish.
FROM python:3.11-slim AS base

WORKDIR /opt/soundbench
COPY LICENSE NOTICE README.md constraints.txt pyproject.toml ./
COPY soundbench soundbench
COPY plugins/soundbench_plugins plugins/soundbench_plugins
COPY recipes recipes
RUN pip install --no-cache-dir -c constraints.txt --extra-index-url https://download.pytorch.org/whl/cpu ".[av]" onnxruntime

FROM base AS serve
RUN pip install --no-cache-dir -c constraints.txt ".[serve]"
USER nobody
WORKDIR /tmp
EXPOSE 8000
HEALTHCHECK --start-period=60s CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/healthz', timeout=5)"]
ENTRYPOINT ["soundbench", "serve", "--host", "0.0.0.0"]

FROM base AS soundbench
# A user whom the container does not know has neither a home nor a name, and torch asks for both.
ENV HOME=/tmp USER=user SOUNDBENCH_CACHE=/sounds/.cache
USER nobody
WORKDIR /sounds
ENTRYPOINT ["soundbench"]
