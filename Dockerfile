# One image for every role: `serve` (default), `gateway`, `shadow`, `retrain`, or any other command of `understudy`.
FROM python:3.11-slim AS build
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY gateway gateway
COPY registry registry
COPY retrain retrain
RUN python -m venv /opt/understudy \
 && /opt/understudy/bin/pip install --no-cache-dir --disable-pip-version-check -c constraints.txt .

FROM python:3.11-slim
RUN useradd --system --uid 10001 --home-dir /var/lib/understudy --create-home understudy
COPY --from=build /opt/understudy /opt/understudy
ENV PATH=/opt/understudy/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    UNDERSTUDY__STORE=/var/lib/understudy/store \
    UNDERSTUDY__SERVER__HOST=0.0.0.0
# A network is served only with keys. The first one is issued into the volume that is then served, and printed once:
#   docker run --rm -v understudy:/var/lib/understudy IMAGE keys issue ops --scope admin
#   docker run -p 8080:8080 -v understudy:/var/lib/understudy IMAGE
USER understudy
WORKDIR /var/lib/understudy
VOLUME /var/lib/understudy
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
  CMD ["understudy", "doctor", "--url", "http://127.0.0.1:8080"]
ENTRYPOINT ["understudy"]
CMD ["serve"]
