# The operator's image: docker build -t nico:0.1.0 .
FROM rust:1-slim-trixie AS build
WORKDIR /src
COPY . .
RUN cargo build --locked --release --bin nico

FROM debian:trixie-slim
LABEL org.opencontainers.image.title="NICO" \
      org.opencontainers.image.description="Kubernetes operator that turns NixOS machines managed by NIO into Kubernetes clusters" \
      org.opencontainers.image.licenses="Apache-2.0"
# The builder has them; the final image installs nothing.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /src/target/release/nico /usr/local/bin/nico
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/nico"]
CMD ["run"]
