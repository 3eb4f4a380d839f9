# make run: start it. make test: every test, on SQLite and PostgreSQL. Only Python 3.11 or newer is needed.
.PHONY: run test lint lock messages

PYTHON ?= $(shell for python in python3 python3.11 python3.12 python3.13; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$python" && break; done)
INSTALL = .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all:

run: .venv/runtime
	@exec .venv/bin/python manage.py up --prepare

test: .venv/dev
	@exec .venv/bin/python -m tests

lint: .venv/dev
	.venv/bin/python -m ruff check .
	.venv/bin/python -m ruff format --check .
	.venv/bin/python -m mypy .
	.venv/bin/python -m djlint --quiet --lint templates
	.venv/bin/python manage.py makemigrations --check --dry-run
	BASE_URL=https://letters.example.com MAIL_URL=smtp://mail.example.com:587 \
		.venv/bin/python manage.py check --deploy --fail-level WARNING

# The texts of the pages: from the source to locale/, and what was translated to what Django reads (needs gettext).
messages: .venv/dev
	.venv/bin/python manage.py makemessages --locale fr --no-location --no-obsolete --ignore '.venv/*' --ignore 'var/*'
	.venv/bin/python manage.py compilemessages --locale fr --ignore '.venv/*'

lock: .venv/dev
	.venv/bin/python -m pip install --quiet uv
	cd requirements && for list in runtime dev; do \
		../.venv/bin/python -m uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
			--no-emit-index-url --no-emit-find-links --no-header $$list.in -o $$list.txt; \
	done

.venv/runtime: requirements/runtime.txt | .venv/made
	@echo "Installing what the service runs on; the first time takes about a minute."
	@$(INSTALL) -r requirements/runtime.txt
	@touch .venv/runtime

.venv/dev: requirements/dev.txt | .venv/made
	@echo "Installing what the tests need; the first time takes about two minutes."
	@$(INSTALL) -r requirements/dev.txt
	@touch .venv/dev .venv/runtime

.venv/made:
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo "Python 3.11 or newer is needed. Install it, or name it: make PYTHON=/path/to/python3.11"; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "Python lacks its venv module. On Debian or Ubuntu: sudo apt install python3-venv"; exit 1; }
	@"$(PYTHON)" -m venv .venv
	@touch .venv/made
