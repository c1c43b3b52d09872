# The operator's image: docker build -t nico:0.1.0 .
FROM rust:1-slim-trixie AS build
WORKDIR /src
COPY . .
RUN cargo build --locked --release --bin nico

FROM debian:trixie-slim
# The builder has them; the final image installs nothing.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /src/target/release/nico /usr/local/bin/nico
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/nico"]
CMD ["run"]
