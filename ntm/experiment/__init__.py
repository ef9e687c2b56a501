"""What is done with the machine: configs, runs, training, evaluation."""
