# The operator's image: docker build -t nico:0.1.0 .
# One static binary, and the certificates of public CAs for git servers. `.ci/image` takes these steps without Docker.
FROM rust:1.95.0-slim-trixie@sha256:e14e87345b4d5964ddcc3491d27ee046a0f23820f340c3c1e24da6880141f7c0 AS build
# The SBOM lists what Cargo.lock names; the last stage alone shows nothing of that.
ARG BUILDKIT_SBOM_SCAN_STAGE=true
WORKDIR /src
COPY . .
# With --target, the flags are for the program alone and not for what runs during the build. glibc rather than musl: the Deployment
# sets its malloc so that memory is given back. A static program finds getrandom(2) by no other backend, and would need /dev/urandom.
RUN RUSTFLAGS='-C target-feature=+crt-static --cfg getrandom_backend="linux_getrandom"' \
    cargo build --locked --release --bin nico --target "$(rustc --print host-tuple)" \
 && install -D "target/$(rustc --print host-tuple)/release/nico" target/image/nico

FROM scratch
LABEL org.opencontainers.image.title="NICO" \
      org.opencontainers.image.description="Kubernetes operator that turns NixOS machines managed by NIO into Kubernetes clusters" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /src/target/image/nico /usr/local/bin/nico
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["/usr/local/bin/nico"]
CMD ["run"]
