"""What is measured: evaluation, traces, results over many runs."""
