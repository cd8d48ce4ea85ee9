//! Looks for quarantines that an operator has ended. Usually the run's next record makes its worker apply
//! what was parked, but a finished run has none.

use std::{convert::Infallible, time::Duration};

use matyan_model::{
    ids::NamedProject,
    project::projects_list,
    quarantine::{Quarantine, quarantines_list},
};
use matyan_store::Error;
use tokio::sync::mpsc;

use crate::{apply::RunKey, deps::Deps};

/// Rows read from one snapshot.
const PAGE: usize = 1_000;
/// Interval between looks.
const INTERVAL: Duration = Duration::from_secs(2);

pub(super) struct EndingQuarantine {
    pub(super) run: RunKey,
    /// The partition of the run. It is 0 if nothing of the run was applied before; the worker that reads
    /// partition 0 then applies the parked records.
    pub(super) partition: u32,
}

/// Sends every quarantine that is ending, again and again until it has ended.
pub(super) async fn find(deps: &Deps, found: &mpsc::Sender<EndingQuarantine>) -> Infallible {
    loop {
        tokio::time::sleep(INTERVAL).await;
        if let Err(error) = find_once(deps, found).await {
            tracing::warn!(%error, "failed to look for quarantines that are ending; will retry");
        }
    }
}

async fn find_once(deps: &Deps, found: &mpsc::Sender<EndingQuarantine>) -> Result<(), Error> {
    let projects = projects_list(&*deps.store.snapshot().await?).await?;
    for NamedProject { number: project, name } in projects {
        let mut rest = Some(matyan_model::keys::quarantines(project));
        while let Some(range) = rest {
            let (page, next) = quarantines_list(&*deps.store.snapshot().await?, &range, PAGE).await?;
            rest = next;
            let readable = page.into_iter().filter_map(|(id, row)| Some((id, row.ok()?)));
            for (id, Quarantine { cursor, .. }) in readable.filter(|(_, row)| row.is_ending) {
                let run = RunKey { project, project_name: name.as_str().into(), id };
                let ending = EndingQuarantine { run, partition: cursor.position.partition };
                // The receiver lives as long as this future.
                drop(found.send(ending).await);
            }
        }
    }
    Ok(())
}
