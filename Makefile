# What to call, and nothing else: the work is in cargo, .ci/ and tests/. `make` alone prints this list.
# Everything is built in the release profile, so that build, demo, tests, lints and benches share what was compiled.

.DEFAULT_GOAL := help
.PHONY: help build demo test soak lint bench fuzz docs docs-current

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## target/release/roadstead
	cargo build --release --locked

demo: build ## push to an origin, pull through an edge, fill its disk, kill the origin, pull again (half a minute)
	@cargo build --release --locked --quiet --example demo
	@target/release/examples/demo

test: ## everything, with real clients and databases; installs what it needs first, and says so
	tests/setup
	cargo build --release --locked
	.ci/docs --check
	cargo test --release --locked --workspace

soak: build ## ten minutes of a mixed trace with faults, and its figures (SOAK_SECONDS=, SEED=)
	SOAK_SECONDS=$${SOAK_SECONDS:-600} cargo test --release --locked --test system faults::soak:: -- --nocapture

lint: ## formatting, clippy, file lengths, shell scripts, licences and versions of dependencies
	.ci/lint

bench: build ## measured beside other registries in the same run; writes benches/RESULTS.md and STORE.md
	benches/setup
	benches/run

fuzz: ## every parser of oci, a minute each; installs cargo-fuzz first, and says so
	oci/fuzz/run

docs: build ## docs/configuration.md, from what the binary says about itself
	.ci/docs
