lock:
	cd requirements && for list in runtime dev; do \
		../.venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
			--no-emit-index-url --no-emit-find-links --no-header $$list.in -o $$list.txt; \
	done
