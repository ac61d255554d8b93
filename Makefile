# What a contributor types, and CI. Recipes are three lines at most; the rest is in the scripts that
# they call.
.DEFAULT_GOAL := help
.PHONY: help setup demo test bench bench-lkm check rig fmt lint docs units deny modules kill-loop
.PHONY: audit-million killed programs soak

MODULES := --locked --manifest-path tests/modules/Cargo.toml --target-dir target/modules

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' Makefile | expand -t 16

setup: ## install what is missing: SoftHSM, OpenSC, OpenSSL, … (apt)
	@.ci/setup

programs: ## kekd, kekctl and kekd-lkm, in target/debug
	cargo build --locked --bins

demo: setup programs ## seal a recording with OpenSSL, open it through kekd
	sh docs/demo.sh target/debug

test: setup modules ## every test; two at once for each processor, for they wait more than they work
	RUST_TEST_THREADS=$${RUST_TEST_THREADS:-$$(($$(nproc) * 2))} cargo test --locked

bench-lkm: setup modules ## throughput of kekd-lkm beside kekd and the raw module (release build)
	cargo test --locked --release --test it -- lkm::bench::throughput --ignored --nocapture

check: fmt lint test docs units deny ## everything CI looks at, except the demo

rig: setup programs ## a kekd with a throw-away token, in target/rig
	target/debug/kekctl rig up target/rig

fmt: ## is the source formatted?
	cargo fmt --all --check
	cargo fmt --all --check --manifest-path tests/modules/Cargo.toml

lint: setup ## clippy, warnings as errors; and the programs compile without what tests need
	cargo clippy --locked --all-targets -- -D warnings
	cargo check --locked --bins
	cargo clippy $(MODULES) --all-targets -- -D warnings

docs: ## the API documentation, warnings as errors
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps

units: setup programs ## systemd units: valid, and closed enough
	sh systemd/check target/debug

deny: ## dependencies: licences, sources, advisories (cargo-deny)
	@.ci/deny

modules: setup ## the PKCS#11 modules for tests
	cargo test --quiet $(MODULES) --package kekd-test-fault
	cargo build $(MODULES)

kill-loop: modules ## 500 kills while versions are made (KILLS=NUMBER for another number)
	cargo test --locked --test it -- --ignored --nocapture saga_kill::kill_loop

audit-million: ## a million audit records: start, verification, questions, a drop, timed (AUDIT_RECORDS=NUMBER)
	cargo test --locked --release --test it -- --ignored --nocapture --exact audit::scale::a_million_records

soak: modules ## a million unwraps leave no memory behind (SOAK_UNWRAPS=NUMBER for another number)
	cargo test --locked --test it -- --ignored --nocapture --exact soak::a_million_unwraps

killed: setup ## kill -9 under load, 200 times: each DEK has its record
	cargo test --locked --test it -- --ignored --nocapture --exact kill9::two_hundred_times

bench: setup ## P1-P9 beside the raw module, in a release build (QUICK=1: in two minutes)
	cargo build --release $(MODULES) --package kekd-test-null
	cargo bench --locked --bench table -- $(if $(QUICK),--quick)
	$(if $(QUICK),,$(MAKE) bench-lkm)
