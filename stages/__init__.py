"""One file per stage: VERSION, Config, Inputs and run(config, inputs, out, resources) -> summary."""
