# The front door. `make` lists what it can do; mk/ holds how C is compiled and where FreeSWITCH is found.

SHELL := /bin/bash
.SHELLFLAGS := -e -u -o pipefail -c
MAKEFLAGS += --no-builtin-rules --no-print-directory
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SUFFIXES:

PYTHON ?= python3
VENV ?= .venv
PREFIX ?= /usr/local
DESTDIR ?=

include mk/freeswitch.mk
include mk/c.mk

VENV_PYTHON := $(VENV)/bin/python
IVR_AI := $(VENV)/bin/ivr-ai
PIP_INSTALL := -m pip install -qq --disable-pip-version-check
SITE = build/site-$(FS_PYTHON_VERSION)
PACKAGE_FILES := $(shell find ivr_ai -name '*.py' -o -name '*.toml')
say = @printf '%-7s %s\n' '$(1)' '$(2)'

##@ Use

.PHONY: help
help: ## this list
	@awk 'BEGIN { FS = ":.*## " } /^##@ / { print "\n" substr($$0, 5) } \
		/^[a-z-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@printf '\nSettings: PYTHON=%s VENV=%s PREFIX=%s DESTDIR=%s FS_PREFIX=%s\n' \
		'$(PYTHON)' '$(VENV)' '$(PREFIX)' '$(DESTDIR)' '$(FS_PREFIX)'

# The environment's HOST means something else (where `ivr-ai sim` listens, see docs/configuration.md): only
# `make demo HOST=...` counts here, and it stays out of the program's environment.
ifneq ($(origin HOST),command line)
HOST = $(if $(FS_FOUND),freeswitch,embedded)
else
unexport HOST
endif
REALTIME ?= sim
OUT ?= build/demo

DEMO_THROUGH_FREESWITCH = $(filter freeswitch,$(HOST))
DEMO_ARGUMENTS = --host $(HOST) --realtime $(REALTIME) --out $(OUT) $(addprefix --fs-prefix ,$(FS_PREFIX))

.PHONY: demo
demo: ext $(if $(filter demo,$(MAKECMDGOALS)),$(if $(DEMO_THROUGH_FREESWITCH),module site)) ## hold a conversation (HOST=freeswitch|embedded REALTIME=sim|openai OUT=dir)
	@echo '$(IVR_AI) demo $(DEMO_ARGUMENTS)'
	@$(if $(DEMO_THROUGH_FREESWITCH),IVR_AI_TEST_SITE='$(CURDIR)/$(SITE)') $(IVR_AI) demo $(DEMO_ARGUMENTS)

.PHONY: doctor
doctor: ext ## check this machine and the installation, and say what to do
	@$(IVR_AI) doctor $(if $(FS_PREFIX),--fs-prefix $(FS_PREFIX))

##@ Build

.PHONY: all
all: lib ext ## all that `make install` copies: library, module, package and what it needs
	@$(if $(FS_FOUND),$(MAKE) module install-files,echo 'no FreeSWITCH found: no module built')

.PHONY: deps
deps: ## install what is missing of the compiler, headers, venv and espeak-ng (apt; root or sudo)
	@PYTHON='$(PYTHON)' scripts/deps.sh

.PHONY: venv
venv: $(VENV)/.installed ## make the Python environment for development in VENV

$(VENV)/.installed: pyproject.toml scripts/requirements.py | deps
	$(call say,PYTHON,$(VENV): packages for development and the demo)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "$(PYTHON) is older than Python 3.10: name another with PYTHON=")'
	@$(PYTHON) -m venv $(VENV)
	@$(VENV_PYTHON) scripts/requirements.py --build-system --extra dev --extra demo > $(VENV)/requirements.txt
	@$(VENV_PYTHON) $(PIP_INSTALL) 'pip>=22.3' --requirement $(VENV)/requirements.txt
	@touch $@

.PHONY: lib
lib: $(LIBRARY) build/libaudiostream.so ## libaudiostream.so.1, the streams

.PHONY: module
module: $(MODULE) ## mod_audio_stream.so, for the FreeSWITCH that is found

.PHONY: ext
ext: $(VENV)/.extension ## the Python package in VENV, its cffi extension built in place

$(VENV)/.extension: setup.py pyproject.toml ivr_ai/_build_audio_stream.py $(PUBLIC_HEADERS) $(VENV)/.installed | lib
	$(call say,CFFI,ivr_ai/_audio_stream.abi3.so)
	@rm -rf build/temp.*
	@$(VENV_PYTHON) $(PIP_INSTALL) --no-build-isolation --no-deps --editable .
	@$(VENV_PYTHON) -I -c 'import ivr_ai._audio_stream'
	@touch $@

##@ Test

.PHONY: test
test: ext $(C_TESTS) ## everything that needs no FreeSWITCH: C under sanitizers, then Python
	@failed=; scripts/c-tests.sh $(C_TESTS) || failed=1; \
	scripts/test.sh unit '$(VENV_PYTHON)' tests/unit tests/install || failed=1; [ -z "$$failed" ]

.PHONY: c-tests
c-tests: $(C_TESTS) ## C unit and stress tests under ASan+UBSan and TSan, fuzzing's corpus under ASan+UBSan
	@scripts/c-tests.sh $(C_TESTS)

FUZZ_S ?= 60

.PHONY: fuzz
fuzz: $(FUZZERS:%=build/tests/fuzz/%) ## look for inputs that break the parsers, FUZZ_S=60 seconds each (clang)
	@scripts/fuzz.sh '$(FUZZ_S)' $^

.PHONY: test-freeswitch
test-freeswitch: ## real SIP calls through the FreeSWITCH that is found; skipped without one
	@$(if $(FS_FOUND),$(MAKE) run-test-freeswitch,echo 'skipped: no FreeSWITCH')

.PHONY: run-test-freeswitch
run-test-freeswitch: ext module site
	@IVR_AI_TEST_SITE='$(CURDIR)/$(SITE)' FS_PREFIX='$(FS_PREFIX)' \
		scripts/test.sh freeswitch '$(VENV_PYTHON)' tests/freeswitch tests/install

PEERS_VENV = build/venv-peers

.PHONY: test-peers
test-peers: ext $(PEERS_VENV)/.installed ## other people's Realtime clients against `ivr-ai sim`, in an environment of their own
	@PYTHONPATH='$(CURDIR)' $(PEERS_VENV)/bin/python -m pytest -q tests/peers

$(PEERS_VENV)/.installed: pyproject.toml scripts/requirements.py | $(VENV)/.installed
	$(call say,PYTHON,$(PEERS_VENV): Realtime clients of others)
	@rm -rf $(PEERS_VENV)
	@$(VENV_PYTHON) -m venv $(PEERS_VENV)
	@$(VENV_PYTHON) scripts/requirements.py --extra sim --extra peers > $(PEERS_VENV)/requirements.txt
	@$(PEERS_VENV)/bin/python $(PIP_INSTALL) 'pytest>=8' --requirement $(PEERS_VENV)/requirements.txt
	@touch $@

.PHONY: bench
bench: $(BENCHES) ## what a call's audio costs in the C library
	@for bench in $(BENCHES); do $$bench; done

.PHONY: bench-calls
bench-calls: ext module site ## what a conversation costs FreeSWITCH, beside a call that plays silence
	$(need-freeswitch)
	@IVR_AI_TEST_SITE='$(CURDIR)/$(SITE)' FS_PREFIX='$(FS_PREFIX)' $(VENV_PYTHON) tests/load/bench_calls.py

.PHONY: churn
churn: ext module site ## thousands of short calls through FreeSWITCH, hung up at random: what is left behind?
	$(need-freeswitch)
	@IVR_AI_TEST_SITE='$(CURDIR)/$(SITE)' FS_PREFIX='$(FS_PREFIX)' $(VENV_PYTHON) tests/load/churn.py

.PHONY: kill-links
kill-links: ext module site ## a hundred calls through FreeSWITCH whose connections are killed at random: do they go on?
	$(need-freeswitch)
	@IVR_AI_TEST_SITE='$(CURDIR)/$(SITE)' FS_PREFIX='$(FS_PREFIX)' $(VENV_PYTHON) tests/load/kill_links.py

.PHONY: stream-races
stream-races: ext module ## thousands of streams to WebSocket servers, ended at any moment in any way: what is left behind?
	$(need-freeswitch)
	@FS_PREFIX='$(FS_PREFIX)' $(VENV_PYTHON) tests/load/stream_races.py

# What is checked with mypy --strict; of these, those that exist.
TYPED = $(wildcard ivr_ai/conversation ivr_ai/realtime ivr_ai/call.py ivr_ai/leg.py)

# Versions of clang-format differ in what they make of the same style: C is formatted with Debian 12's.
CLANG_FORMAT_MAJOR := 14
CLANG_FORMAT = $(shell scripts/clang-format.sh $(CLANG_FORMAT_MAJOR))
NO_CLANG_FORMAT = echo 'C not checked: clang-format $(CLANG_FORMAT_MAJOR) is not installed (Debian 12: apt-get install clang-format)'

.PHONY: lint
lint: venv ## ruff, mypy --strict where types are complete, clang-format 14 where it is installed
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(if $(TYPED),$(VENV)/bin/mypy --strict $(TYPED))
	@$(if $(CLANG_FORMAT),$(CLANG_FORMAT) --dry-run --Werror $(C_FILES),$(NO_CLANG_FORMAT))

.PHONY: format
format: venv ## reformat Python, and C where clang-format 14 is installed
	@$(VENV)/bin/ruff check --fix-only --quiet .
	@$(VENV)/bin/ruff format .
	@$(if $(CLANG_FORMAT),$(CLANG_FORMAT) -i $(C_FILES),$(NO_CLANG_FORMAT))

##@ Install

# The packages that ivr_ai needs, `ivr-ai sim` included, for exactly the Python that mod_python3 embeds.
.PHONY: site
site: venv
	$(need-python)
	@$(MAKE) --silent $(SITE)/.installed

build/site-%/.installed: pyproject.toml scripts/requirements.py
	$(call say,PYTHON,$(@D): packages for $(FS_PYTHON))
	@rm -rf $(@D) && mkdir -p $(@D)
	@$(VENV_PYTHON) scripts/requirements.py --extra sim > $(@D).txt
	@$(VENV_PYTHON) -m pip -qq --disable-pip-version-check --python $(FS_PYTHON) install \
		--target $(@D) --requirement $(@D).txt
	@touch $@

# The package itself, as a wheel that looks for libaudiostream.so.1 in libdir.
build/install/package.stamp: $(VENV)/.extension build/install/libdir $(PACKAGE_FILES)
	$(call say,WHEEL,ivr_ai for $(libdir))
	@rm -rf build/lib build/lib.* build/bdist.* build/temp.* build/install/package build/install/wheel
	@IVR_AI_LIBDIR='$(libdir)' $(VENV_PYTHON) -m pip wheel -qq --disable-pip-version-check --no-build-isolation \
		--no-deps --wheel-dir build/install/wheel .
	@$(VENV_PYTHON) $(PIP_INSTALL) --no-deps --no-compile --target build/install/package build/install/wheel/*.whl
	@$(FS_PYTHON) -m compileall -q build/install/package
	@touch $@

.PHONY: install-files
install-files: lib build/install/$(MODULE_NAME) build/install/package.stamp site

INSTALL = $(PYTHON) scripts/install.py --destdir '$(DESTDIR)' --libdir '$(libdir)'

.PHONY: install
install: ## into the FreeSWITCH that is found (DESTDIR PREFIX modulesdir= scriptdir= confdir= libdir=)
	$(need-freeswitch)
	$(need-python)
	@$(MAKE) install-files
	@$(INSTALL) --modulesdir '$(modulesdir)' --scriptdir '$(scriptdir)' --confdir '$(confdir)' \
		--bindir '$(PREFIX)/bin' --python '$(FS_PYTHON)' --site '$(SITE)'

.PHONY: uninstall
uninstall: ## remove exactly what install put there; edited configuration stays
	$(need-freeswitch)
	@$(INSTALL) --uninstall

##@ Tidy

.PHONY: clean
clean: ## remove what was built
	@rm -rf build ivr_ai/*.so *.egg-info $(VENV)/.extension
	@find ivr_ai tests fs_scripts scripts -name __pycache__ -prune -exec rm -rf {} +

.PHONY: distclean
distclean: clean ## and the Python environment and tools' caches
	@rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache
