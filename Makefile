# Everything that a developer or CI runs. Each target installs what it needs into a cache outside the checkout.
SHELL := /bin/sh
.DEFAULT_GOAL := help
.SUFFIXES:

CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/cnpg-backup
PYTHON ?= python3
# The environment has the name of its pins: another clone finds it again, a changed pin creates a new one.
PINS := $(shell { sed -n '/^\(dev\|dependencies\) = \[/,/^\]/p' pyproject.toml; cat constraints.txt; } | sha256sum | cut -c1-12)
VENV := $(CACHE)/venv-$(PINS)
PY := $(VENV)/bin/python
export PATH := $(VENV)/bin:$(PATH)
export PYTHONDONTWRITEBYTECODE := 1

.PHONY: help venv packages tools demo test test-long matrix lint format sync man single-file package release-check release-version publish site kind-test bench bench-cluster bench-offsite bench-restore bench-retention e2e e2e-long cluster cluster-shell cluster-down

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' Makefile

venv: $(VENV)/.complete ## Install the Python environment (into the cache) and print where it is
	@echo $(VENV)

$(VENV)/.complete:
	@tools/make-venv "$(PYTHON)" "$(VENV)"

packages: ## Check for, or as root install, the Debian packages that the tests need
	@tools/need-packages busybox:busybox dash:dash openssl:openssl git:git chromium:chromium cc:build-essential \
	  /usr/lib/postgresql/%/bin/postgres:postgresql-% \
	  /usr/share/postgresql/%/extension/postgis.control:postgresql-%-postgis-3 \
	  /usr/share/postgresql/%/extension/pg_cron.control:postgresql-%-cron \
	  /usr/share/postgresql/%/extension/pg_partman.control:postgresql-%-partman \
	  /usr/share/postgresql/%/extension/pgaudit.control:postgresql-%-pgaudit

demo: venv ## Back up, prune, lose and restore three databases on embedded PostgreSQL servers
	@$(PY) -m lab.demo $(ARGS)

tools: ## Build or install the pinned tools that the tests call
	@for tool in helm helm3 helm-unittest helm-docs ct policy-check kube-linter promtool age; do tools/build $$tool >/dev/null || exit 1; done
	@for tool in checkov browser; do tools/venv $$tool >/dev/null || exit 1; done

test: venv packages tools lint ## Run all linters, and every test except e2e
	@$(PY) -m pytest -m 'not e2e and not long' -n 4 --dist worksteal

test-long: venv packages tools ## Run the properties with many examples, and copies to real object stores
	@for tool in rclone versitygw; do tools/build $$tool >/dev/null || exit 1; done
	@$(PY) -m pytest -m 'long and not e2e' -n 2 --dist worksteal

matrix: venv packages ## Restore every kind of database in every way; writes docs/restore-matrix.md
	@$(PY) -m tests.matrix $(ARGS)

lint: venv ## Types, style, shell, YAML, and drift of generated files
	@tools/lint

format: venv ## Format Python and shell
	@ruff format . && ruff check --fix -q . && shfmt -w $$(tools/lint --list-shell)

sync: venv ## Write the generated files: the copies in chart/charts/programs/files, addresses, annotations, and chart/README.md
	@$(PYTHON) tools/sync-chart-files
	@$(PY) tools/release-metadata
	@tools/chart-readme

man: venv ## Write the plugin's man pages into build/man
	@$(PY) tools/man-pages

single-file: ## Write the plugin as one executable file, build/kubectl-cnpg_backup
	@tools/single-file

package: venv ## Make all files of a release in build/release, the same bytes for the same commit
	@$(PY) -m lab.release.package $(ARGS)

release-check: venv ## Make a release twice, publish it to a registry on this machine, verify and install it, and forge it
	@tools/need-packages git:git gpg:gnupg
	@$(PY) -m lab.release.check $(ARGS)

release-version: venv ## Check that this commit can be published: make release-version TAG=v1.0.0
	@$(PY) -m lab.release.publish --check --tag "$(TAG)"

publish: venv ## Publish the tag that is checked out; only its workflow has what this needs
	@$(PY) -m lab.release.publish

site: venv ## Build the documentation as a site in build/site
	@$(PY) -m lab.site $(ARGS)

kind-test: ## Try the chart on kind with the real operator; KUBERNETES=v1.34.0 OPERATOR=latest; needs Docker
	@tools/kind-test

bench: venv ## Measure against bare pg_dump; writes docs/benchmark.md
	@$(PY) -m lab.bench.dump $(ARGS)

bench-cluster: venv ## Measure the cost of the access policy, and restores, on a cluster; writes docs/benchmark-cluster.md
	@[ -n "$$E2E_KUBECONFIG" ] || $(PY) -m tests.e2e.node build
	@$(PY) -m lab.bench.cluster $(ARGS)

bench-restore: venv packages ## Measure restores against bare pg_restore; writes docs/benchmark-restore.md
	@$(PY) -m lab.bench.restore_local $(ARGS)

bench-offsite: venv ## Measure copies outside against bare rclone; writes docs/benchmark-offsite.md
	@$(PY) -m lab.bench.offsite --page docs/benchmark-offsite.md $(ARGS)

bench-retention: venv ## Measure the retention rule against its peers; writes docs/benchmark-retention.md
	@tools/need-packages borg:borgbackup
	@$(PY) -m lab.bench.retention $(ARGS)

e2e: venv ## Run the tests on a real Kubernetes: a node of their own, or the cluster of E2E_KUBECONFIG
	@tools/need-packages jq:jq fusermount3:fuse3
	@[ -n "$$E2E_KUBECONFIG" ] || $(PY) -m tests.e2e.node build
	@for tool in helm helm3; do tools/build $$tool >/dev/null || exit 1; done
	@$(PY) -m pytest -m 'e2e and not long' tests/e2e $(if $(E2E_KUBECONFIG),,-n 2 --dist loadfile) $(ARGS)

e2e-long: venv ## Run what takes longer there: each alert, the first hour, all commands of the README, tools/try-chart, a drill from a store
	@tools/need-packages jq:jq fusermount3:fuse3
	@[ -n "$$E2E_KUBECONFIG" ] || $(PY) -m tests.e2e.node build
	@for tool in helm helm3 prometheus alertmanager; do tools/build $$tool >/dev/null || exit 1; done
	@$(PY) -m pytest -m 'e2e and long' tests/e2e $(if $(E2E_KUBECONFIG),,-n 2 --dist loadfile) $(ARGS)

cluster: venv ## Start a Kubernetes node like that of e2e, and print how to enter and stop it
	@$(PY) -m tests.e2e.node up

cluster-shell: venv ## Run a shell with kubectl and helm for that node
	@$(PY) -m tests.e2e.node shell

cluster-down: venv ## Stop that node
	@$(PY) -m tests.e2e.node down
