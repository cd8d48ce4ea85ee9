"""Conversion of event files of TensorBoard to an archive."""

from __future__ import annotations

from pathlib import Path

from matyan_client.archives import ArchiveWriter
from matyan_client.backup import BackupResult
from matyan_client.importing import open_source


def convert_tensorboard(
    input_dir: str | Path,
    output_path: str | Path,
    *,
    experiment: str | None = None,
    compress: bool = False,
    workers: int = 1,
) -> BackupResult:
    """Writes an archive with a run for each directory of event files.

    `workers` exists in Matyan 0.3, and has no effect.
    """
    del workers
    runs = open_source("tensorboard", Path(input_dir)).runs
    filters = {"source": "tensorboard", "input": str(input_dir)}
    writer = ArchiveWriter(Path(output_path), "matyan-tb-import", filters=filters, blobs=True)
    with writer:
        for run in runs:
            if experiment is not None:
                run.facts.experiment = experiment
            writer.add_run(run)
    path = writer.compress() if compress else writer.path
    return BackupResult(path, writer.run_count, writer.blob_count, writer.blob_bytes)
