"""The sections of the benchmark: each module has one function `run(context) -> Section`."""
