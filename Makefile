# The front door. `make` alone lists what there is.
.DEFAULT_GOAL := help
.PHONY: help demo stop address build extension test bench bench-quick lint docs package check clean

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile

demo: ## start a whole Tasker in .demo/, run an order through it and show its steps
	@examples/demo/run start

stop: ## stop the demo; its data stays
	@examples/demo/run stop

address: ## print the demo's addresses for a shell: eval "$(make -s address)"
	@examples/demo/run address

build: ## build all programs (needs no PostgreSQL)
	cargo build

extension: ## build the extension and install it into a private PostgreSQL under .build/
	@pg_extension/install

test: ## run all tests, those on PostgreSQL on the default version and on 18
	@.ci/prerequisites
	@tests/run

bench: ## measure Tasker beside what the machine can do, on a PostgreSQL of its own; writes bench/results/
	@.ci/prerequisites build
	@pg_extension/install >/dev/null
	cargo build --release -p tasker-bench -p tasker-server -p tasker-worker
	@"$${CARGO_TARGET_DIR:-target}/release/tasker-bench"

bench-quick: ## the same in some three minutes, with fewer of everything
	@.ci/prerequisites build
	@pg_extension/install >/dev/null
	cargo build --release -p tasker-bench -p tasker-server -p tasker-worker
	@"$${CARGO_TARGET_DIR:-target}/release/tasker-bench" --quick

lint: ## check the format, and clippy with warnings refused
	cargo fmt --all --check
	@.ci/prerequisites
	@.ci/lint

docs: ## build the documentation: the site into target/book, the crates' own into target/doc
	@.ci/prerequisites
	@.ci/book
	@.ci/docs

package: ## build .deb files (the extension, the programs) and an archive into dist/
	@.ci/prerequisites
	@packaging/build

check: ## all that must hold before a change is taken: lint, docs, test
	@.ci/run

clean: ## stop the demo and remove all that was built
	@examples/demo/run stop
	@# Either may be a link (.ci/open-folder): what it leads to goes too.
	rm -rf "$$(readlink -f .build)" "$$(readlink -f .demo)" .build .demo dist target
