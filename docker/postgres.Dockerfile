# PostgreSQL with the extension. PGMQ is put in by the first migration, as plain SQL.
#
#   docker build -f docker/postgres.Dockerfile --build-arg POSTGRES=18 -t tasker-postgres .
ARG POSTGRES=18

FROM postgres:${POSTGRES}-bookworm AS build
ARG POSTGRES
RUN apt-get update \
 && apt-get install -y --no-install-recommends build-essential ca-certificates curl libclang-dev pkg-config "postgresql-server-dev-$POSTGRES" \
 && rm -rf /var/lib/apt/lists/*
# The Rust that rust-version in Cargo.toml asks for; cargo-pgrx of the version of pgrx in pg_extension/Cargo.toml.
ENV CARGO_HOME=/cargo RUSTUP_HOME=/rustup PATH=/cargo/bin:$PATH
RUN curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal --default-toolchain 1.95.0 \
 && cargo install cargo-pgrx --version =0.18.1 --locked
WORKDIR /tasker
COPY . .
RUN cargo pgrx init "--pg$POSTGRES" "/usr/lib/postgresql/$POSTGRES/bin/pg_config" \
 && cargo pgrx package --package tasker --no-default-features --features "pg$POSTGRES" --pg-config "/usr/lib/postgresql/$POSTGRES/bin/pg_config" --out-dir /package \
 && cp pg_extension/sql/tasker--*.sql "/package/usr/share/postgresql/$POSTGRES/extension/"

FROM postgres:${POSTGRES}-bookworm
COPY --from=build /package/usr/ /usr/
# The background workers do what time must do: maintenance, and SQL steps.
CMD ["postgres", "-c", "shared_preload_libraries=tasker", "-c", "tasker.databases=tasker"]
