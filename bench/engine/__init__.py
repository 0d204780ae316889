"""Ways to run trials, all behind `bench.engine.base.Engine`."""
