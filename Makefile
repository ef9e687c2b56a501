# Everything from nothing but python3 and make; the README has the same in plain pip commands.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-system test-slow clean

# A virtual environment with the suite and its tests' tools, made again when the lists change.
.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@

# Trains copy until it is solved (or goes on where it was stopped), tests it at 20 and at 120, and
# draws its memory.
demo: .venv/installed
	$(BIN)/ntm train copy/ntm-lstm --run runs/demo $(if $(wildcard runs/demo/config.yaml),--resume)
	$(BIN)/ntm evaluate runs/demo --set task.length=20
	$(BIN)/ntm evaluate runs/demo --set task.length=120 --slots 256 --episodes 100
	$(BIN)/ntm plot runs/demo
	$(BIN)/ntm plot runs/demo --set task.length=120 --slots 256

test: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest --quiet --numprocesses logical --maxprocesses 4 --dist worksteal

# Sweeps, clusters, signals and full disks, in processes of their own: minutes.
test-system: .venv/installed
	$(BIN)/pytest --quiet -m system --numprocesses logical --maxprocesses 4 --dist worksteal

# Trains until solved, over several seeds: minutes.
test-slow: .venv/installed
	$(BIN)/pytest --quiet -m slow

clean:
	rm -rf .venv build *.egg-info .mypy_cache .pytest_cache .ruff_cache
