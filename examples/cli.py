"""The suite's data and models from the shell, by LightningCLI: `python cli.py fit -c cli.yaml`."""

import dataclasses

from lightning.pytorch.cli import LightningCLI

from bench import DataFacts, ExtremeClassifier, ExtremeDataModule, data_facts


class Cli(LightningCLI):
    def add_arguments_to_parser(self, parser):
        for field in dataclasses.fields(DataFacts):
            name = f"model.init_args.facts.{field.name}"
            parser.link_arguments("data", name, Fact(field.name), apply_on="instantiate")


@dataclasses.dataclass(frozen=True)
class Fact:
    name: str

    def __call__(self, data):
        data.setup()
        return getattr(data_facts(data), self.name)


if __name__ == "__main__":
    Cli(ExtremeClassifier, ExtremeDataModule, subclass_mode_model=True)
