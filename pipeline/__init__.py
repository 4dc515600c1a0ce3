"""Config, graph, fingerprints, runner and command line: how stages become artifacts."""
