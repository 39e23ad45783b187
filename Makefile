# One door for people and CI: thin wrappers around cargo.

CARGO ?= cargo
# Warnings are errors here, and only here: a newer compiler must not stop a user's build.
LINT = -D warnings
# All that is built for tests is built as one: parts would have other features of the same crates,
# and compile those again.
BUILD = build --locked --workspace
WITH_IMAGE = SLIPWAY_TEST_IMAGE="$$($(PROGRAMS)/build-image)" && export SLIPWAY_TEST_IMAGE &&
PROGRAMS = $(or $(CARGO_TARGET_DIR),target)/debug
# Does its argument, and then prints what each scenario took, however it ended.
WITH_TIMES = $(PROGRAMS)/times begin && { code=0; $(1) || code=$$?; $(PROGRAMS)/times; exit $$code; }
# cargo and its compilers are no jobs of this make.
ALONE = MAKEFLAGS=

.PHONY: help demo test deps build inputs lint unit golden scenarios beside vm soak bench deny

help: ## what there is
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/\1 \2/p' $(MAKEFILE_LIST) | \
		while read -r target text; do printf '  make %-8s %s\n' "$$target" "$$text"; done

deps: ## install what the other targets need (Debian)
	@./setup/install-dependencies

build: deps ## compile all programs and tests
	$(ALONE) $(CARGO) $(BUILD) --all-targets

inputs: build ## fetch the locked packages, or lock afresh when they are gone
	@./setup/fetch-inputs $(PROGRAMS)/slipway

demo: deps ## boot a node that joins a cluster, updates itself and survives a bad release
	$(CARGO) $(BUILD) --bins
	@./setup/fetch-inputs $(PROGRAMS)/slipway
	$(PROGRAMS)/demo

# Beside the scenarios: tests without machines while the image is built, then the control plane that
# later scenarios need, and lints; those two take what machines leave. One that fails stops no other.
test: inputs ## everything that CI runs
	$(CARGO) fmt --all --check
	@$(call WITH_TIMES,$(MAKE) --no-print-directory -j2 -k unit scenarios beside)

lint: ## formatting and lints
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- $(LINT)

unit: inputs ## tests without virtual machines
	$(ALONE) $(CARGO) test --locked --workspace --no-fail-fast --lib --bins \
		$(patsubst %.rs,--test %,$(notdir $(wildcard */tests/*.rs)))

golden: deps ## write the golden files of unit tests anew
	INSTA_UPDATE=always $(CARGO) test --locked --workspace --lib --test debian_archive \
		--no-fail-fast

vm: inputs ## tests in virtual machines, one at a time
	@$(call WITH_TIMES,$(MAKE) --no-print-directory scenarios)

soak: inputs ## all scenarios in their long forms, and those that need hours or other builds
	$(CARGO) test --locked -p updater --lib sim::tests::soak -- --ignored --nocapture
	@$(call WITH_TIMES,$(MAKE) --no-print-directory scenarios SLIPWAY_LONG=1 WHICH=--include-ignored)

scenarios: inputs
	export $(ALONE); $(WITH_IMAGE) $(CARGO) test --locked --workspace --test scenarios -- $(WHICH)

beside: inputs
	nice -n 19 $(PROGRAMS)/build-control-plane
	$(ALONE) nice -n 19 $(CARGO) clippy --locked --workspace --all-targets -- $(LINT)

bench: ## compare with peers, and write docs/benchmarks.md
	@./setup/install-dependencies bench
	$(CARGO) build --locked --release -p builder
	$(CARGO) build --locked --release -p updater --example apply
	$(CARGO) run --locked --release -p bench

deny: ## licences, advisories and sources of all crates (needs cargo-deny)
	@$(CARGO) deny --version >/dev/null 2>&1 || \
		{ echo "make deny: cargo-deny is missing: cargo install --locked cargo-deny" >&2; exit 1; }
	$(CARGO) deny --locked check
