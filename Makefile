# The commands of Weir. Everything real is in scripts/ and in the binary itself.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup setup-test build run test bench lab clean

IFACE ?=
CACHE := $(or $(WEIR_CACHE),$(HOME)/.cache/weir)
TARGET := $(or $(CARGO_TARGET_DIR),target)
WEIR := $(TARGET)/release/weir
# Loading programs needs root; elsewhere sudo asks for it, and without sudo `weir` says what it lacks.
ROOT := $(shell [ "$$(id -u)" = 0 ] || command -v sudo)
# Where the kernel-side toolchain is: see scripts/setup.
ENVIRONMENT := . $(CACHE)/toolchain.env

help: ## this list
	@echo "Weir: every incoming packet accounted for in the kernel"
	@echo
	@sed -nE 's/^([a-z]+):[^#]*## (.*)/  make \1\t\2/p' Makefile | expand -t 16
	@echo
	@echo "  make run IFACE=eth0      one interface; IFACE=\"eth0 eth1\" several; none: that of the default route"

setup:
	@scripts/setup run

setup-test:
	@scripts/setup test

build: setup
	@$(ENVIRONMENT) && cargo build --locked --release --bin weir

run: build ## build, attach and observe until Ctrl-C (drops nothing)
	$(ROOT) $(WEIR) run $(addprefix --iface ,$(IFACE))

test: setup-test ## everything the repository checks of itself
	@$(ENVIRONMENT) && scripts/test

bench: setup-test build ## figures with ratios: kernel programs, offline reading
	$(ROOT) $(WEIR) bench kernel
	$(WEIR) bench read

lab: build ## a private network of namespaces with real traffic, and what Weir saw in it
	$(ROOT) $(WEIR) lab up
	$(ROOT) $(WEIR) lab run normal || { $(ROOT) $(WEIR) lab down; exit 1; }
	@echo "make: the lab is still up; '$(WEIR) lab run NAME' starts another scenario, '$(WEIR) lab down' ends it"

clean: ## remove what the build made (not the tools in the cache)
	@[ ! -d "$(TARGET)" ] || cargo clean
	@rm -rf crates/ebpf/target fuzz/target
