"""Running compiled programs: training, data, files, the command."""
