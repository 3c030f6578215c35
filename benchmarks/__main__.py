"""``python -m benchmarks``: what ``make bench`` calls."""

from __future__ import annotations

import sys

from benchmarks.run import main

sys.exit(main())
