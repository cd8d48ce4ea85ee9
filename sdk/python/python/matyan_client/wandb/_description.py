"""Properties of a run in W&B's interface, and how a run of Matyan records them."""

from __future__ import annotations

from collections.abc import Sequence

from matyan_client import Run as MatyanRun
from matyan_client import values

from ._config import Config
from ._files import RunFiles
from ._history import History
from ._options import Options, Settings
from ._summary import SummaryStore, SummaryView


class RunDescription:
    """Description of a run: names, tags, config, and addresses."""

    _options: Options
    _id: str
    _config: Config
    _summary: SummaryStore
    _files: RunFiles
    _history: History | None
    matyan_run: MatyanRun | None

    @property
    def id(self) -> str:
        """Id that was given to `init`, or else the hash of the run."""
        return self._id

    @property
    def name(self) -> str:
        """Name of the run; its id if it has none."""
        return self._options.name or self._id

    @name.setter
    def name(self, value: str) -> None:
        self._options.name = str(value)
        if self.matyan_run is not None:
            self.matyan_run.name = self._options.name

    @property
    def notes(self) -> str | None:
        """Description of the run."""
        return self._options.notes

    @notes.setter
    def notes(self, value: str) -> None:
        self._options.notes = str(value)
        if self.matyan_run is not None:
            self.matyan_run.description = self._options.notes

    @property
    def tags(self) -> tuple[str, ...]:
        """Tags of the run."""
        return self._options.tags

    @tags.setter
    def tags(self, value: Sequence[str]) -> None:
        old = self._options.tags
        new = tuple(dict.fromkeys(map(str, value)))
        self._options.tags = new
        if self.matyan_run is not None:
            for tag in new:
                if tag not in old:
                    self.matyan_run.add_tag(tag)
            for tag in old:
                if tag not in new:
                    self.matyan_run.remove_tag(tag)

    @property
    def config(self) -> Config:
        """Config of the run."""
        return self._config

    @property
    def summary(self) -> SummaryView:
        """Summary of the run."""
        return SummaryView(self._summary)

    @property
    def project(self) -> str | None:
        """Project of the run, its experiment in Matyan."""
        return self._options.project

    @property
    def entity(self) -> str | None:
        """Entity that was given to `init`. It is recorded, and has no other meaning."""
        return self._options.entity

    @property
    def group(self) -> str | None:
        """Group of the run."""
        return self._options.group

    @property
    def job_type(self) -> str | None:
        """Type of the run's job."""
        return self._options.job_type

    @property
    def settings(self) -> Settings:
        """Settings that were given to `init`."""
        return self._options.settings

    @property
    def mode(self) -> str:
        """One of `online`, `offline`, and `disabled`."""
        return self._options.mode

    @property
    def offline(self) -> bool:
        """Whether nothing is sent until `matyan-client sync`."""
        return self.mode == "offline"

    @property
    def disabled(self) -> bool:
        """Whether nothing is stored."""
        return self.matyan_run is None

    @property
    def sweep_id(self) -> None:
        """None, because there are no sweeps."""
        return

    @property
    def step(self) -> int:
        """Step of the next row."""
        return 0 if self._history is None else self._history.step

    @property
    def dir(self) -> str:
        """Directory whose files are stored when the run ends."""
        return str(self._files.directory)

    @property
    def path(self) -> str:
        """Entity, project, and id."""
        return "/".join(part for part in (self.entity, self.project, self.id) if part)

    @property
    def url(self) -> str | None:
        """Address of the run's page, or None unless it is sent."""
        if self.matyan_run is None or self.offline:
            return None
        return self.matyan_run.url

    def get_url(self) -> str | None:
        """Returns `url`."""
        return self.url

    def describe(self) -> None:
        """Records the properties of the run, when it starts."""
        target = self.matyan_run
        options = self._options
        if target is None:
            return
        if options.name:
            target.name = options.name
        if options.notes:
            target.description = options.notes
        for tag in options.tags:
            target.add_tag(tag)
        described = {
            "id": self.id,
            "project": options.project,
            "entity": options.entity,
            "group": options.group,
            "job_type": options.job_type,
        }
        for key, value in described.items():
            if value is not None:
                target["wandb", key] = values.plain(value)
