# What a developer does here. CI calls the same targets.

.PHONY: help run check fmt-check lint deny advisories test bench hostile interop fuzz compose-check

help: ## Say what there is
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 16

run: ## Serve Thrift and HTTP over the embedded store in ./data
	cargo run --release --locked

check: fmt-check lint deny test ## Everything that a change must pass

fmt-check: ## The formatting (cargo fmt mends it)
	cargo fmt --all --check

lint: ## Clippy, without a warning
	cargo clippy --workspace --all-targets --locked -- -D warnings

deny: ## Licences, sources and unwanted crates in the dependency tree
	cargo deny --locked check bans licenses sources

advisories: ## Published advisories against the dependency tree (fetches their database)
	cargo deny --locked check advisories

test: ## All tests, with a real redis-server
	cargo test --workspace --locked

bench: ## CPU, throughput and memory of the servers, as a Markdown table (needs wrk)
	cargo build --release --workspace --locked
	python3 bench/figures.py

hostile: ## What hostile bytes cost other callers, in latency and memory, as a Markdown table (some 4 minutes)
	cargo bench --locked -p rpc-server --bench hostile

interop: ## Thrift clients and servers of other languages against these servers, as a Markdown table (needs Go)
	cargo build --workspace --locked
	interop/run.sh target/debug

FUZZ_SECONDS ?= 60

fuzz: ## Any bytes for the message reader and for a whole connection, a minute each (needs cargo-fuzz)
	cd fuzz && mkdir -p corpus/message corpus/connection
	cd fuzz && RUSTC_BOOTSTRAP=1 cargo fuzz run message corpus/message seeds/message -- $(FUZZ_LIMITS)
	cd fuzz && RUSTC_BOOTSTRAP=1 cargo fuzz run connection corpus/connection seeds/connection -- $(FUZZ_LIMITS)

FUZZ_LIMITS = -max_total_time=$(FUZZ_SECONDS) -max_len=4096 -timeout=10 -rss_limit_mb=2048 -print_final_stats=1

compose-check: ## docker-compose up from a clean clone, on a Docker daemon of its own (as root, some minutes)
	deploy/compose-check.sh
