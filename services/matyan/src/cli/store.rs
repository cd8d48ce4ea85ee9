//! `matyan store`: commands for the files of an embedded store. They need no server, and refuse a store
//! that a server uses.

use std::{
    io,
    path::{Path, PathBuf},
};

use clap::{Args, Subcommand};
use matyan_store::embedded::{self, Inspection, Salvage};
use serde_json::{Value, json};

use crate::client::{Output, Progress};

const VERIFY_EXAMPLES: &str = "\
Examples:
  matyan store verify ./matyan-data                 the store of `matyan up`, which must not be running
  matyan store verify /snapshots/matyan-data/store --json

Exit codes: 0 if everything can be read, 3 if there is damage, 1 if the store could not be checked.";

const SALVAGE_EXAMPLES: &str = "\
Examples:
  matyan store salvage ./matyan-data --output ./salvaged
  mv ./matyan-data/store ./damaged-store && mv ./salvaged ./matyan-data/store

The damaged store is not changed. Restore a backup instead if you have one: a salvaged store lacks what could not be read,
and may therefore contradict itself.

Exit codes: 0 if everything was copied, 3 if something is missing, 1 if the store could not be copied.";

#[derive(Debug, Subcommand)]
pub(crate) enum StoreCommand {
    /// Read all files of a store and report damage, without changing anything
    #[command(after_help = VERIFY_EXAMPLES)]
    Verify(VerifyFlags),
    /// Copy everything that can be read in a damaged store to a new one
    #[command(after_help = SALVAGE_EXAMPLES)]
    Salvage(SalvageFlags),
}

#[derive(Debug, Args)]
pub(crate) struct VerifyFlags {
    /// Data directory of `matyan up`, or the directory of its store
    dir: PathBuf,
    /// Print the result as one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SalvageFlags {
    /// Data directory of `matyan up`, or the directory of its store
    dir: PathBuf,
    /// Directory for the new store, which must be empty or missing
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// Print the result as one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(transparent)]
    Store(#[from] matyan_store::Error),
    #[error("failed to write the output")]
    Output(#[from] io::Error),
    #[error(
        "the store is damaged in {damaged} places: restore a backup, or run `matyan store salvage {} --output NEW`",
        dir.display()
    )]
    Damaged { damaged: usize, dir: PathBuf },
    #[error("{losses} parts of the store could not be read, and are missing in the copy")]
    Incomplete { losses: usize },
}

impl Error {
    pub(crate) fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// True if the command has done its work, and found that data is missing.
    pub(crate) fn is_incomplete(&self) -> bool {
        matches!(self, Self::Damaged { .. } | Self::Incomplete { .. })
    }
}

pub(super) fn run(command: &StoreCommand) -> Result<(), Error> {
    match command {
        StoreCommand::Verify(flags) => verify(flags),
        StoreCommand::Salvage(flags) => salvage(flags),
    }
}

fn verify(flags: &VerifyFlags) -> Result<(), Error> {
    let progress = Progress::new(0, "files", flags.json);
    let inspection = embedded::inspect(&store_directory(&flags.dir), |done, total| progress.set(done, total));
    progress.finish();
    let inspection = inspection?;
    print_inspection(&mut Output::new(flags.json), &inspection)?;
    match inspection.damage.len() {
        0 => Ok(()),
        damaged => Err(Error::Damaged { damaged, dir: flags.dir.clone() }),
    }
}

fn print_inspection(out: &mut Output, inspection: &Inspection) -> io::Result<()> {
    let Inspection { files, bytes, damage, unfinished_bytes } = inspection;
    if out.json {
        let damage: Vec<Value> = damage
            .iter()
            .map(|damage| json!({"file": damage.file, "reason": damage.kind.to_string()}))
            .collect();
        return out.object(&json!({
            "files": files,
            "bytes": bytes,
            "unfinished_bytes": unfinished_bytes,
            "damage": damage,
        }));
    }
    out.line(format!("read {files} files, {bytes} bytes"))?;
    if *unfinished_bytes > 0 {
        out.line(format!(
            "{unfinished_bytes} bytes of commits that a crash has interrupted, which the next start cuts off"
        ))?;
    }
    damage.iter().try_for_each(|damage| out.line(format!("damaged: {damage}")))
}

fn salvage(flags: &SalvageFlags) -> Result<(), Error> {
    let progress = Progress::new(0, "rows", flags.json);
    let salvaged =
        embedded::salvage(&store_directory(&flags.dir), &flags.output, |rows| progress.set(rows, 0));
    progress.finish();
    let salvaged = salvaged?;
    print_salvage(&mut Output::new(flags.json), &salvaged, &flags.output)?;
    match salvaged.losses.len() {
        0 => Ok(()),
        losses => Err(Error::Incomplete { losses }),
    }
}

fn print_salvage(out: &mut Output, salvage: &Salvage, output: &Path) -> io::Result<()> {
    let Salvage { rows, bytes, losses } = salvage;
    if out.json {
        let losses: Vec<Value> =
            losses.iter().map(|loss| json!({"file": loss.file, "reason": loss.kind.to_string()})).collect();
        return out.object(&json!({"rows": rows, "bytes": bytes, "losses": losses}));
    }
    out.line(format!("copied {rows} rows, {bytes} bytes, to {}", output.display()))?;
    losses.iter().try_for_each(|loss| out.line(format!("missing: {loss}")))
}

/// The store in a data directory, or the directory itself.
fn store_directory(dir: &Path) -> PathBuf {
    let store = dir.join("store");
    if store.join("engine").is_dir() && !dir.join("engine").is_dir() { store } else { dir.to_owned() }
}
