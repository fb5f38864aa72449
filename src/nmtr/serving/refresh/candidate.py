"""The bundle that a refresh makes: trained from what is served where that is of the same form."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from nmtr.data.interactions import Interactions, load
from nmtr.options import parse_assignments
from nmtr.serving.bundle import Bundle, open_bundle
from nmtr.serving.bundling import write_bundle
from nmtr.serving.refresh.judging import FILE
from nmtr.serving.refresh.options import Options
from nmtr.serving.refresh.retiring import OVERDUE, PLAIN, deadline
from nmtr.training.folder import WEIGHTS, Run, open_run
from nmtr.training.run import execute
from nmtr.training.selection import new_model
from nmtr.training.settings import Settings, override
from nmtr.training.step import Report
from nmtr.training.warm import Learned


@dataclass(frozen=True)
class Maker:
    """Makes a candidate in a night's folder, in steps that a kill does not undo.

    start: the bundle to start from, if any. file, run: what is made, in that folder.
    """

    folder: Path
    options: Options
    start: Path | None
    say: Callable[[str], None]
    report: Report | None
    file: str = FILE
    run: str = "run"

    def plain(self) -> Maker:
        """What makes the popular items' bundle beside the candidate."""
        options = replace(self.options, model=PLAIN, set=())
        return replace(self, options=options, start=None, file=f"{PLAIN}.nmtr", run=PLAIN)

    def make(self) -> Bundle:
        """The candidate, made or found. Raises what training raises."""
        file = self.folder / self.file
        if not file.exists():
            run, warm = self._trained()
            by = deadline(self.start) if self.start and warm else None
            write_bundle(
                run, file, catalogue=run.data.item_attributes, trained=run.split().train,
                more={} if by is None else {OVERDUE: by},
            )  # fmt: skip
        return open_bundle(file)

    def _trained(self) -> tuple[Run, bool]:
        """The run, and whether it started from what is served."""
        path, data = self.folder / self.run, self.folder / "data"
        opened = load(data)
        settings, learned = self._settings(opened)
        if not (path / WEIGHTS).exists():
            self.say(f"training {settings.model} from {'what is served' if learned else 'nothing'}")
            execute(opened, settings, path, report=self.report, learned=learned)
        return open_run(path, data=data), learned is not None

    def _settings(self, data: Interactions) -> tuple[Settings, Learned | None]:
        """The settings, and what to start from; then the number of epochs is fixed.

        What is started from has seen what validation would hold out, so it can choose nothing.
        Fields of attributes have no names by which they could be found again: a model that learns
        from them starts from nothing.
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
        form = new.trained and not new.describes
        if not (form and same and old.model.config == new.config):
            return settings, None
        epochs = new.warm_up + options.warm_epochs
        learned = Learned(
            old.settings, old.data.behaviors, old.model.state_dict(), old.data.users,
            old.data.items, old.calibration,
        )  # fmt: skip
        training = replace(training, select="none", epochs=epochs)
        return replace(settings, training=training), learned
