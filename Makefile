# `make run` and `make test` do all the set-up that they need; the rest are their parts.
# PROFILE=release builds the hub for speed (the first time takes twice as long); `make dist`, for half an hour, the fastest.

PROFILE ?= dev
LISTEN ?= 127.0.0.1:8787
TARGET ?= target
EXAMPLES = urgent-only task-timer redact github-digest
FUZZ_TARGETS = event filter manifest gate
FUZZ_SECONDS ?= 20
# Without a sanitizer: the code is safe Rust, so panics and overflows, which are checked, are what there is to find; and the C in
# the dependencies is not what is fuzzed.
FUZZ = cargo +nightly fuzz run --sanitizer none --codegen-units 16 --target-dir $(abspath $(TARGET))/fuzz
GUESTS = $(TARGET)/guests/wasm32-wasip2/guest
WEBHOOKS = $(TARGET)/webhooks.jsonl
TOOLCHAINS = $(TARGET)/toolchains
TOOLCHAIN_FILES = tests/toolchains/requirements.txt tests/toolchains/package.json
BUSWAY = $(TARGET)/$(if $(filter dev,$(PROFILE)),debug,$(PROFILE))/busway
export CARGO_TARGET_DIR = $(abspath $(TARGET))

.PHONY: run test toolchains plugins demo demo-github starling torture leaks bench dist fuzz hub setup fmt clippy unit doc webhooks

## The hub with the example plugins and live demo events: open another terminal and try `make demo`, curl, or `busway tail`.
run: plugins hub
	@$(BUSWAY) serve --listen $(LISTEN) --demo

## Everything that CI runs: format, lints, tests, docs.
test: setup toolchains fmt clippy unit doc

## The toolchains of all the languages that plugins are built in, and Autobahn's cases for WebSocket, under target/toolchains; nothing
## to do if they are there already. Without python3 or npm, theirs are left out, and so are their tests; CI has to have them.
toolchains:
	@rustup target list --installed 2>/dev/null | grep -qx wasm32-unknown-unknown || rustup target add wasm32-wasip2 wasm32-unknown-unknown
	@want="$$(cat $(TOOLCHAIN_FILES) | cksum)"; test "$$(cat $(TOOLCHAINS)/installed 2>/dev/null)" = "$$want" && exit 0; \
	mkdir -p $(TOOLCHAINS)/npm && cp tests/toolchains/package.json $(TOOLCHAINS)/npm/; all=yes; \
	{ python3 -m venv $(TOOLCHAINS)/venv && $(TOOLCHAINS)/venv/bin/pip install --quiet --disable-pip-version-check -r tests/toolchains/requirements.txt; } \
	  || { all=no; echo "without python3 and its venv, C, C++, Zig, Python and Go are left out"; }; \
	(cd $(TOOLCHAINS)/npm && npm install --no-package-lock --no-audit --no-fund --silent) \
	  || { all=no; echo "without npm, JavaScript, TypeScript and AssemblyScript are left out"; }; \
	if [ $$all = yes ]; then echo "$$want" > $(TOOLCHAINS)/installed; elif [ "$$CI" = true ]; then exit 1; fi

## Builds the example plugins and puts plugins/<name>.wasm and .toml in place (renamed, so that a running hub never sees half a file).
plugins: setup
	cargo build --locked --profile guest --target wasm32-wasip2 --target-dir $(TARGET)/guests $(addprefix --package ,$(EXAMPLES))
	@for name in $(EXAMPLES); do \
	  cmp -s plugins/$$name/plugin.toml plugins/$$name.toml || { cp plugins/$$name/plugin.toml plugins/.$$name.toml.new && mv plugins/.$$name.toml.new plugins/$$name.toml; }; \
	  built=$(GUESTS)/$$(echo $$name | tr - _).wasm; \
	  cmp -s $$built plugins/$$name.wasm || { cp $$built plugins/.$$name.wasm.new && mv plugins/.$$name.wasm.new plugins/$$name.wasm && echo "plugins/$$name.wasm"; }; \
	done

## Believable agent events, played into the hub that runs.
demo: hub
	@$(BUSWAY) --url http://$(LISTEN) demo

## 329 real GitHub webhooks, published as github.<name>; the plugin github-digest sums them up. Needs npm, and a hub that runs.
demo-github: plugins hub webhooks
	@$(BUSWAY) --url http://$(LISTEN) publish $(WEBHOOKS)
	@echo "published; the digests:"
	@$(BUSWAY) --url http://$(LISTEN) tail --types github.digest --from earliest --limit 20

## Kills the hub 200 times while it works, and compares what was acknowledged with what is there. The result: target/torture.json.
torture: setup
	BUSWAY_KILLS=200 BUSWAY_TORTURE_RESULT=$(abspath $(TARGET))/torture.json \
	  cargo nextest run --locked --workspace --profile torture -E 'test(torture::)'

## 10,000 reloads and 100,000 faults: whether the hub's memory, files or threads grow. The result: target/leaks.json.
leaks: setup
	BUSWAY_RELOADS=10000 BUSWAY_FAULTS=100000 BUSWAY_LEAKS_RESULT=$(abspath $(TARGET))/leaks.json \
	  cargo nextest run --locked --workspace --profile leaks -E 'test(leaks::)'

## The plugins in JavaScript, built with StarlingMonkey in place of QuickJS, have to keep the same contract.
starling: setup toolchains
	cargo nextest run --locked --workspace --features starling -E 'test(starling::)'

## Figures for BENCHMARKS.md.
bench: setup
	cargo bench --locked --package busway

## The hub as it should be shipped, target/dist/busway: compiled for what the benchmarks have shown it to do most.
dist: setup
	packaging/dist.sh

## Random bytes for what reads bytes of strangers, FUZZ_SECONDS each. Needs nightly and cargo-fuzz; the first time, a hub is built.
fuzz:
	@cargo +nightly fuzz --version >/dev/null 2>&1 || { echo "cargo-fuzz is not there: cargo install cargo-fuzz --locked"; exit 1; }
	$(FUZZ) seeds -- -runs=0 -verbosity=0
	@for name in $(FUZZ_TARGETS); do \
	  echo "fuzzing $$name"; \
	  $(FUZZ) $$name -- -max_total_time=$(FUZZ_SECONDS) -timeout=5 -print_final_stats=1 -verbosity=0 || exit 1; \
	done

hub: setup
	cargo build --locked --profile $(PROFILE) --workspace --bin busway

setup:
	@rustup target list --installed 2>/dev/null | grep -qx wasm32-wasip2 || rustup target add wasm32-wasip2

fmt:
	cargo fmt --all --check

clippy: setup
	cargo clippy --locked --workspace --all-targets -- -D warnings

# With npm, the test on real webhooks is built too; CI has to have it.
unit: setup
	@if command -v npm >/dev/null || [ "$$CI" = true ]; then \
	  $(MAKE) --no-print-directory webhooks && $(MAKE) --no-print-directory unit-with FEATURES="--features webhooks"; \
	else \
	  echo "npm is not installed: the test on real GitHub webhooks is left out"; $(MAKE) --no-print-directory unit-with; \
	fi

unit-with:
	@if cargo nextest --version >/dev/null 2>&1; then \
	  set -x; cargo nextest run --locked --workspace $(FEATURES); \
	else \
	  set -x; cargo test --locked --workspace --lib --bins --tests $(FEATURES); \
	fi
	cargo test --locked --workspace --doc

doc: setup
	RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" cargo doc --locked --workspace --no-deps --document-private-items --quiet

webhooks: $(WEBHOOKS)

$(WEBHOOKS): tests/webhooks/package.json tests/webhooks/payloads.mjs
	@mkdir -p $(TARGET)/webhooks && cp $^ $(TARGET)/webhooks/
	@cd $(TARGET)/webhooks && npm install --no-package-lock --no-audit --no-fund --silent && node payloads.mjs > webhooks.jsonl.new
	@mv $(TARGET)/webhooks/webhooks.jsonl.new $@
