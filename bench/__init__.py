"""Measurements that anyone can repeat: `python bench/NAME.py`. Each starts and stops its own servers."""
