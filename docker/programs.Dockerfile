# tasker-server, tasker-worker and tasker-ctl in one image; the command says which.
#
#   docker build -f docker/programs.Dockerfile -t tasker .
FROM rust:1.95-bookworm AS build
WORKDIR /tasker
COPY . .
RUN cargo build --release --locked -p tasker-server -p tasker-worker -p tasker-cli

FROM debian:bookworm-slim
COPY --from=build /tasker/target/release/tasker-server /tasker/target/release/tasker-worker /tasker/target/release/tasker-ctl /usr/bin/
COPY migrations/ /usr/share/tasker/migrations/
COPY examples/templates/ /usr/share/tasker/templates/
USER nobody
EXPOSE 8080 9190
CMD ["tasker-server"]
