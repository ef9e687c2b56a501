"""Runs on disk: the folder, how it is started and continued, and many of them."""
