"""The benchmark harness: environments, data, tasks, contests, verdicts, tables."""
