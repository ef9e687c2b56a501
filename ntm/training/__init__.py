"""Training: the settings, the loop, schedules, curricula, optimisers."""
