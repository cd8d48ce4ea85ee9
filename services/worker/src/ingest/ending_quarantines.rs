//! Looks for quarantines that an operator has ended. Usually the run's next record makes its worker apply
//! the parked records, but a finished run has no next record. A counter tells whether there is anything to look for.

use std::{convert::Infallible, time::Duration};

use matyan_model::{
    ids::NamedProject,
    project::projects_list,
    quarantine::{Quarantine, quarantine_resumes, quarantines_list},
};
use matyan_store::Error;
use tokio::{sync::mpsc, time::Instant};

use crate::{apply::RunKey, deps::Deps};

/// Rows read from one snapshot.
const PAGE: usize = 1_000;
/// Interval between looks at the counter.
const INTERVAL: Duration = Duration::from_secs(2);
/// Interval between searches without a reason: an older program does not count.
const SEARCH_INTERVAL: Duration = Duration::from_secs(300);

pub(super) struct EndingQuarantine {
    pub(super) run: RunKey,
    /// The partition of the run. It is 0 if nothing of the run was applied before; the worker that reads
    /// partition 0 then applies the parked records.
    pub(super) partition: u32,
}

/// Sends every quarantine that is ending, in each interval until the quarantine has ended.
pub(super) async fn find(deps: &Deps, found: &mpsc::Sender<EndingQuarantine>) -> Infallible {
    let mut last = None;
    loop {
        tokio::time::sleep(INTERVAL).await;
        if let Err(error) = look(deps, found, &mut last).await {
            tracing::warn!(%error, "failed to look for quarantines that are ending; will retry");
        }
    }
}

/// A search that has found nothing.
struct EmptySearch {
    resumes: i64,
    at: Instant,
}

impl EmptySearch {
    fn still_holds(&self, resumes: i64) -> bool {
        self.resumes == resumes && self.at.elapsed() < SEARCH_INTERVAL
    }
}

async fn look(
    deps: &Deps,
    found: &mpsc::Sender<EndingQuarantine>,
    last: &mut Option<EmptySearch>,
) -> Result<(), Error> {
    // Read first, so that a resume that is counted during the search leads to another search.
    let resumes = quarantine_resumes(&*deps.store.snapshot().await?).await?;
    if last.as_ref().is_some_and(|last| last.still_holds(resumes)) {
        return Ok(());
    }
    *last = None;
    if !search(deps, found).await? {
        *last = Some(EmptySearch { resumes, at: Instant::now() });
    }
    Ok(())
}

/// Returns whether a quarantine is ending.
async fn search(deps: &Deps, found: &mpsc::Sender<EndingQuarantine>) -> Result<bool, Error> {
    let mut is_any_ending = false;
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
                is_any_ending = true;
                // The receiver lives as long as this future.
                drop(found.send(ending).await);
            }
        }
    }
    Ok(is_any_ending)
}

#[cfg(test)]
mod tests {
    use matyan_model::{ids::RunId, keys, position::Cursor, quarantine::quarantine_put};
    use matyan_store::Batch;

    use super::*;
    use crate::tests::harness::{P, TestEnv};

    /// Stores a quarantine that is ending, and counts it if asked to.
    async fn end_quarantine(env: &TestEnv, is_counted: bool) {
        let quarantine = Quarantine {
            reason: "parked".to_owned(),
            since_us: 7,
            cursor: Cursor::default(),
            is_ending: true,
            parked_bytes: 0,
            is_deleting: false,
            restored: None,
        };
        let mut batch = Batch::default();
        quarantine_put(&mut batch, P, &RunId::new("r"), &quarantine);
        if is_counted {
            batch.add(keys::quarantine_resumes(), 1);
        }
        env.store().commit(batch).await.unwrap();
    }

    #[tokio::test]
    async fn quarantines_are_searched_only_after_one_was_resumed() {
        let env = TestEnv::new().await;
        let (sender, mut found) = mpsc::channel(8);
        let mut last = None;
        look(&env.deps, &sender, &mut last).await.unwrap();
        assert!(last.is_some() && found.try_recv().is_err());
        // A search would find it.
        end_quarantine(&env, false).await;
        look(&env.deps, &sender, &mut last).await.unwrap();
        assert!(found.try_recv().is_err(), "all quarantines were searched without a reason");
        end_quarantine(&env, true).await;
        // In each interval until it has ended.
        for _ in 0..2 {
            look(&env.deps, &sender, &mut last).await.unwrap();
            assert_eq!(found.try_recv().unwrap().run.id, RunId::new("r"));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_search_without_a_result_holds_until_a_quarantine_is_resumed() {
        let search = EmptySearch { resumes: 3, at: Instant::now() };
        assert!(search.still_holds(3));
        assert!(!search.still_holds(4));
        tokio::time::advance(SEARCH_INTERVAL).await;
        assert!(!search.still_holds(3), "an older program may have resumed one");
    }
}
