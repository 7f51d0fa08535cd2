# Two stages: a static build, and an image with the binary and nothing else.
#   docker build -t exeat .
#   docker run --rm -p 127.0.0.1:3128:3128 -v ./requirements.toml:/etc/codex/requirements.toml:ro exeat

FROM rust:1.95-alpine AS build
RUN apk add --no-cache musl-dev
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY src src
COPY config config
RUN cargo build --release --locked --bin exeat

FROM scratch
COPY --from=build /src/target/release/exeat /exeat
USER 65532:65532
# Containers are reached over their own network, so loopback would be nobody.
ENV EXEAT_LISTEN=0.0.0.0:3128 EXEAT_ALLOW_NON_LOOPBACK=true
EXPOSE 3128
HEALTHCHECK --interval=10s --timeout=4s --start-period=2s CMD ["/exeat", "health"]
ENTRYPOINT ["/exeat"]
CMD ["serve"]
