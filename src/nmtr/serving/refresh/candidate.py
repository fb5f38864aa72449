"""The bundle that a refresh makes: trained from what is served where that is of the same form."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from nmtr.data.catalogue import read_catalogue
from nmtr.data.interactions import Interactions, load
from nmtr.options import parse_assignments
from nmtr.serving.bundle import Bundle, open_bundle
from nmtr.serving.bundling import write_bundle
from nmtr.serving.refresh.options import Options
from nmtr.training.folder import WEIGHTS, Run, open_run
from nmtr.training.run import execute
from nmtr.training.selection import new_model
from nmtr.training.settings import Settings, override
from nmtr.training.step import Report
from nmtr.training.warm import Learned

FILE = "candidate.nmtr"


@dataclass(frozen=True)
class Maker:
    """Makes a candidate in a night's folder, in steps that a kill does not undo.

    start: the bundle to start from, if any.
    """

    folder: Path
    options: Options
    start: Path | None
    say: Callable[[str], None]
    report: Report | None

    def make(self) -> Bundle:
        """The candidate, made or found. Raises what training raises."""
        file = self.folder / FILE
        if not file.exists():
            run, catalogue = self._trained(), None
            if self.options.items:
                catalogue, _ = read_catalogue(Path(self.options.items), run.data.items)
            write_bundle(run, file, catalogue=catalogue, trained=run.split().train)
        return open_bundle(file)

    def _trained(self) -> Run:
        path, data = self.folder / "run", self.folder / "data"
        if not (path / WEIGHTS).exists():
            opened = load(data)
            settings, learned = self._settings(opened)
            self.say(f"training {settings.model} from {'what is served' if learned else 'nothing'}")
            execute(opened, settings, path, report=self.report, learned=learned)
        return open_run(path, data=data)

    def _settings(self, data: Interactions) -> tuple[Settings, Learned | None]:
        """The settings, and what to start from; then the number of epochs is fixed.

        What is started from has seen what validation would hold out, so it can choose nothing.
        """
        options = self.options
        settings = override(
            Settings(), parse_assignments(options.set), model=options.model, protocol="time"
        )
        training = replace(settings.training, threads=options.threads)
        settings = replace(settings, training=training)
        if self.start is None:
            return settings, None
        old, new = open_bundle(self.start), new_model(data, settings)
        same = (old.settings.model, old.data.behaviors) == (settings.model, data.behaviors)
        if not (new.trained and same and old.model.config == new.config):
            return settings, None
        epochs = new.warm_up + options.warm_epochs
        learned = Learned(
            old.settings, old.data.behaviors, old.model.state_dict(), old.data.users,
            old.data.items, old.calibration,
        )  # fmt: skip
        training = replace(training, select="none", epochs=epochs)
        return replace(settings, training=training), learned
