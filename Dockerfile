# syntax=docker/dockerfile:1.7

# A static binary needs nothing else: the image holds only it. The Alpine toolchain links statically against musl, and has the C
# compiler that the TLS library needs.
FROM rust:1.95.0-alpine3.22 AS build
WORKDIR /build
# The toolchain of the image, without fetching the components that rust-toolchain.toml names for development.
ENV RUSTUP_TOOLCHAIN=1.95.0
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/build/target \
    cargo build --release --locked --package okms-operator --bin okms-operator \
    && cp target/release/okms-operator /okms-operator

FROM scratch
LABEL org.opencontainers.image.title="okms-operator" \
      org.opencontainers.image.description="Keeps native Kubernetes Secrets equal to the secrets in OVHcloud OKMS Secret Manager" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /okms-operator /okms-operator
# A number, so that Kubernetes can see that it is not root.
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["/okms-operator"]
CMD ["run"]
