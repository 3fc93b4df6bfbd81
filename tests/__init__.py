"""Tests, one file per room; `python -m pytest -m "not slow"` is the fast suite."""
