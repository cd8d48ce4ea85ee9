//! Makes, merges and clears cohorts of a project, of metrics or of params, while the lock of their job is held.

use std::{collections::BTreeSet, time::Duration};

use matyan_model::{
    cohort::{
        CohortKind, CohortMembers, CohortSource, CohortValues, cohort_admit, cohort_begin, cohort_clear,
        cohort_expel, cohort_number_next, cohort_shorten, cohorts_page,
    },
    ids::{CohortNumber, Project, RunNumber},
    keys,
    param_cohort::{ParamValues, param_cohort_clear},
    uncollected::{ListWear, uncollected_renew},
};
use matyan_store::{Batch, Store, Transaction};
use tokio_util::sync::CancellationToken;

use crate::{COLLECT_METRICS, COLLECT_PARAMS, Clock, Error, JobLock, pace::Pace};

/// Runs admitted in one transaction, which rewrites the rows of the cohorts that they leave: up to 4 kB each. It starts again if
/// one of them changes until it is committed.
const ADMITTED: usize = 256;

/// A transaction whose commit does not wait for a sync: if it is lost, so is everything that was committed after it, and the runs
/// are in the list again.
fn buffered(mut transaction: Transaction) -> Transaction {
    transaction.set_buffered();
    transaction
}

/// Whether the list of uncollected runs of a project should be renewed even if no cohort is due: deleted runs leave the list, too,
/// and each scan of it passes over their cleared rows.
pub(crate) async fn is_list_worn(
    store: &dyn Store,
    kind: CohortKind,
    project: Project,
    wear: &mut ListWear,
) -> Result<bool, Error> {
    let snapshot = store.snapshot().await?;
    Ok(wear.is_worn(&*snapshot, kind, project).await?)
}

/// The work on the cohorts of a project while the lock is held.
pub(crate) struct CohortRound<'r> {
    store: &'r dyn Store,
    pub(crate) lock: JobLock<'r>,
    kind: CohortKind,
    pub(crate) project: Project,
    pub(crate) stop: &'r CancellationToken,
    pub(crate) pace: Pace,
    /// Runs that were admitted to cohorts so far.
    pub(crate) admitted: usize,
}

impl<'r> CohortRound<'r> {
    /// Takes the lock of the job that makes cohorts of this kind, or fails with its current holder.
    pub(crate) async fn start(
        store: &'r dyn Store,
        clock: &'r Clock,
        kind: CohortKind,
        project: Project,
        owner: [u8; 16],
        stop: &'r CancellationToken,
    ) -> Result<Self, Error> {
        let job = match kind {
            CohortKind::Metrics => COLLECT_METRICS,
            CohortKind::Params => COLLECT_PARAMS,
        };
        let lock = JobLock::acquire(store, clock, job, project, owner).await?;
        Ok(Self { store, lock, kind, project, stop, pace: Pace::default(), admitted: 0 })
    }

    /// Makes a cohort of runs in ascending order, or several if their values do not fit in one.
    pub(crate) async fn make_cohorts(&mut self, mut numbers: Vec<RunNumber>) -> Result<(), Error> {
        while !numbers.is_empty() && !self.stop.is_cancelled() {
            numbers = self.make_cohort(&numbers).await?;
        }
        Ok(())
    }

    /// Makes a cohort of the first runs, and returns the runs whose values do not fit.
    async fn make_cohort(&mut self, numbers: &[RunNumber]) -> Result<Vec<RunNumber>, Error> {
        let Self { kind, project, .. } = *self;
        let now_us = self.lock.now_us();
        let cohort = cohort_number_next(&*self.store.snapshot().await?, kind, project, now_us).await?;
        let begin = async |mut transaction: Transaction| {
            let numbers = cohort_begin(&mut transaction, kind, project, cohort, numbers).await?;
            Ok::<_, Error>((buffered(transaction), numbers))
        };
        let mut numbers = self.lock.write(begin).await?;
        let (taken, damaged) = match kind {
            CohortKind::Metrics => self.take(cohort, CohortValues::new(project, cohort, &numbers)).await?,
            CohortKind::Params => self.take(cohort, ParamValues::new(project, cohort, &numbers)).await?,
        };
        let left = numbers.split_off(taken);
        numbers.retain(|number| !damaged.contains(number));
        if numbers.is_empty() {
            self.clear(&[cohort]).await?;
        }
        for numbers in numbers.chunks(ADMITTED) {
            let admit = async |mut transaction: Transaction| {
                let admitted = cohort_admit(&mut transaction, kind, project, cohort, numbers).await?;
                Ok::<_, Error>((buffered(transaction), admitted))
            };
            self.admitted += self.lock.write(admit).await?;
            self.pace.rest().await;
        }
        for numbers in damaged.chunks(ADMITTED) {
            let expel = async |mut transaction: Transaction| {
                cohort_expel(&mut transaction, kind, project, cohort, numbers).await?;
                Ok::<_, Error>((buffered(transaction), ()))
            };
            self.lock.write(expel).await?;
        }
        Ok(left)
    }

    /// Takes the values of a cohort. Returns the number of runs whose values it takes, and the runs that cannot be read.
    async fn take(
        &mut self,
        cohort: CohortNumber,
        mut values: impl CohortSource,
    ) -> Result<(usize, Vec<RunNumber>), Error> {
        if let Err(error) = self.write_values(cohort, &mut values).await {
            if let Err(error) = self.clear(&[cohort]).await {
                tracing::warn!(project = self.project.0, %error, "left a cohort without runs to the job merge-cohorts");
            }
            return Err(error);
        }
        Ok((values.runs(), values.damaged().to_vec()))
    }

    /// Reads the values of a cohort, and writes its rows.
    async fn write_values(
        &mut self,
        cohort: CohortNumber,
        values: &mut impl CohortSource,
    ) -> Result<(), Error> {
        while values.read(&*self.store.snapshot().await?).await? {
            // Reading may take longer than a lock lasts.
            self.lock.renew().await?;
            if values.is_full() {
                self.write_read_values(values).await?;
            }
            self.pace.rest().await;
        }
        self.write_read_values(values).await?;
        if values.is_complete() {
            return Ok(());
        }
        let Self { kind, project, .. } = *self;
        let runs = values.runs();
        let shorten = async |mut transaction: Transaction| {
            cohort_shorten(&mut transaction, kind, project, cohort, runs).await?;
            Ok::<_, Error>((buffered(transaction), ()))
        };
        self.lock.write(shorten).await
    }

    async fn write_read_values(&mut self, values: &mut impl CohortSource) -> Result<(), Error> {
        loop {
            let mut batch = Batch::default();
            let is_done = values.write(&mut batch);
            // Kept outside of the closure, because its values are taken out only once.
            let write = async |mut transaction: Transaction| {
                transaction.batch().mutations.clone_from(&batch.mutations);
                Ok::<_, Error>((buffered(transaction), ()))
            };
            self.lock.write(write).await?;
            if is_done {
                return Ok(());
            }
        }
    }

    /// Renews the list of uncollected runs if that is due, or was interrupted. No cohort may be on its way. Returns whether it
    /// did: rows have moved then, so the list must be read from the start.
    pub(crate) async fn renew_list(&mut self, wear: &mut ListWear) -> Result<bool, Error> {
        let Self { store, kind, project, .. } = *self;
        if !is_list_worn(store, kind, project, wear).await? {
            return Ok(false);
        }
        while !self.stop.is_cancelled() {
            let renew = async |mut transaction: Transaction| {
                let is_done = uncollected_renew(&mut transaction, kind, project).await?;
                Ok::<_, Error>((buffered(transaction), is_done))
            };
            if self.lock.write(renew).await? {
                break;
            }
            self.pace.rest().await;
        }
        Ok(true)
    }

    /// Clears cohorts without members.
    pub(crate) async fn clear(&mut self, cohorts: &[CohortNumber]) -> Result<(), Error> {
        let Self { kind, project, .. } = *self;
        let mut cohorts = cohorts.iter();
        let mut next = cohorts.next();
        while let Some(cohort) = next.filter(|_| !self.stop.is_cancelled()) {
            let clear = async |mut transaction: Transaction| {
                let is_cleared = match kind {
                    CohortKind::Metrics => cohort_clear(&mut transaction, project, *cohort).await?,
                    CohortKind::Params => param_cohort_clear(&mut transaction, project, *cohort).await?,
                };
                Ok::<_, Error>((buffered(transaction), is_cleared))
            };
            if self.lock.write(clear).await? {
                next = cohorts.next();
            }
            self.pace.rest().await;
        }
        Ok(())
    }
}

/// Cohorts of a project that can be cleared, or merged.
struct SmallCohorts {
    /// Cohorts without runs.
    empty: Vec<CohortNumber>,
    /// Cohorts that are written again, and groups of cohorts that fit in one, each as its runs in ascending order. Only the
    /// first ones.
    groups: Vec<Vec<RunNumber>>,
    /// The number of all such cohorts and groups.
    due: usize,
}

/// When cohorts are merged.
#[derive(Clone, Copy)]
struct MergeRule {
    /// Runs of a full cohort.
    runs: usize,
    /// A cohort is small if it has less than half of these runs.
    compared_with: ComparedSize,
    /// Cohorts before this one are written again if runs have left them: their rows still have values of these runs,
    /// which may be deleted.
    rewritten_before: CohortNumber,
}

impl MergeRule {
    fn new(kind: CohortKind, runs: usize, now_us: i64) -> Self {
        let compared_with = match kind {
            CohortKind::Metrics => ComparedSize::OwnRuns,
            CohortKind::Params => ComparedSize::FullCohort,
        };
        // The number of a cohort is the time at which it was made.
        let before_us = now_us.saturating_sub(REWRITTEN_US);
        let rewritten_before = CohortNumber(u64::try_from(before_us).unwrap_or_default());
        Self { runs, compared_with, rewritten_before }
    }
}

/// The number of runs that the size of a cohort is compared with.
#[derive(Clone, Copy)]
enum ComparedSize {
    /// The runs that the cohort was made of. Two small cohorts are merged.
    OwnRuns,
    /// The runs of a full cohort. Small cohorts are merged if they nearly fill one, or are many.
    FullCohort,
}

/// Small cohorts that are merged even if they do not nearly fill one.
const MANY_COHORTS: usize = 8;
/// Age above which a cohort that runs have left is written again: until then, its rows have values of deleted runs, and
/// earlier values of changed ones.
pub(crate) const REWRITTEN_US: i64 = 7 * 24 * 3_600_000_000;
/// Cohorts that are written again, and groups that are merged, while the lock is held once, so that new runs do not wait for
/// long.
pub(crate) const MERGED_GROUPS: usize = 4;

impl SmallCohorts {
    async fn read(
        store: &dyn Store,
        kind: CohortKind,
        project: Project,
        rule: MergeRule,
        stop: &CancellationToken,
    ) -> Result<Self, Error> {
        let mut empty = Vec::new();
        let mut rewritten = Vec::new();
        let mut due = 0;
        let mut with_runs = Vec::new();
        let mut rest = Some(keys::cohorts(kind, project));
        let mut pace = Pace::default();
        while let Some(range) = rest.filter(|_| !stop.is_cancelled()) {
            let (cohorts, next) = cohorts_page(&*store.snapshot().await?, kind, project, &range).await?;
            for cohort in cohorts {
                let size = match rule.compared_with {
                    ComparedSize::OwnRuns => cohort.runs,
                    ComparedSize::FullCohort => rule.runs,
                };
                let has_lost_runs = cohort.members.len() < cohort.runs;
                if cohort.members.is_empty() {
                    empty.push(cohort.cohort);
                } else if has_lost_runs && cohort.cohort < rule.rewritten_before {
                    due += 1;
                    if due <= MERGED_GROUPS {
                        rewritten.push(cohort.members);
                    }
                } else if 2 * cohort.members.len() < size {
                    with_runs.push(cohort);
                }
            }
            rest = next;
            pace.rest().await;
        }
        let merged = groups(with_runs, rule);
        due += merged.len();
        let groups = rewritten.into_iter().chain(merged).take(MERGED_GROUPS).collect();
        Ok(Self { empty, groups, due })
    }

    fn is_done(&self) -> bool {
        self.empty.is_empty() && self.due == 0
    }
}

/// Groups cohorts that fit in one. A cohort that would be alone stays.
fn groups(cohorts: Vec<CohortMembers>, rule: MergeRule) -> Vec<Vec<RunNumber>> {
    let members = |group: &[CohortMembers]| group.iter().map(|it| it.members.len()).sum::<usize>();
    let mut groups: Vec<Vec<CohortMembers>> = Vec::new();
    for cohort in cohorts {
        let last = groups.last_mut().filter(|group| members(group) + cohort.members.len() <= rule.runs);
        match last {
            Some(group) => group.push(cohort),
            None => groups.push(vec![cohort]),
        }
    }
    groups.retain(|group| match rule.compared_with {
        ComparedSize::OwnRuns => group.len() > 1,
        ComparedSize::FullCohort => {
            group.len() > 1 && (4 * members(group) >= 3 * rule.runs || group.len() >= MANY_COHORTS)
        }
    });
    let numbers = groups.into_iter().map(|group| group.into_iter().flat_map(|it| it.members).collect());
    // A run that moves while the cohorts are read may be in two of them.
    numbers.map(|numbers: BTreeSet<_>| numbers.into_iter().collect()).collect()
}

impl CohortRound<'_> {
    /// Clears the cohorts of the project that have no runs, merges some of the small ones, and writes others again. Returns whether
    /// more are left, unless that would be so after another call, too.
    async fn merge(&mut self, rule: MergeRule) -> Result<bool, Error> {
        let Self { store, kind, project, stop, .. } = *self;
        let small = SmallCohorts::read(store, kind, project, rule, stop).await?;
        // Done first, because clearing reads no values, which may be damaged.
        self.clear(&small.empty).await?;
        for numbers in small.groups {
            if stop.is_cancelled() {
                return Ok(false);
            }
            self.make_cohorts(numbers).await?;
        }
        let merged = SmallCohorts::read(store, kind, project, rule, stop).await?;
        self.clear(&merged.empty).await?;
        // Values that do not fit in one cohort are not merged, and runs that change all the time stay where they are.
        Ok((1..small.due).contains(&merged.due))
    }
}

/// Merges small cohorts of a project once, see [`CohortRound::merge`]. Takes the lock only if there are any. `runs` is the size
/// of a full cohort.
pub(crate) async fn merge_small_cohorts(
    store: &dyn Store,
    clock: &Clock,
    kind: CohortKind,
    project: Project,
    runs: usize,
    owner: [u8; 16],
    stop: &CancellationToken,
) -> Result<bool, Error> {
    let rule = MergeRule::new(kind, runs, clock());
    if SmallCohorts::read(store, kind, project, rule, stop).await?.is_done() {
        return Ok(false);
    }
    let mut round = CohortRound::start(store, clock, kind, project, owner, stop).await?;
    let merged = round.merge(rule).await;
    // Merging does not count as a success of the job whose lock it is.
    round.lock.dry(true).release(merged).await
}

/// Time between two calls that merge cohorts of a project: the job that makes new ones needs the same lock.
const MERGE_PAUSE: Duration = Duration::from_secs(3);

/// Waits until cohorts are merged again. Returns false if the job is stopped.
pub(crate) async fn merge_pause(stop: &CancellationToken) -> bool {
    stop.run_until_cancelled(tokio::time::sleep(MERGE_PAUSE)).await.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cohort(number: u64, members: &[u64]) -> CohortMembers {
        CohortMembers {
            cohort: CohortNumber(number),
            runs: 8,
            members: members.iter().copied().map(RunNumber).collect(),
        }
    }

    fn rule(runs: usize, compared_with: ComparedSize) -> MergeRule {
        MergeRule { runs, compared_with, rewritten_before: CohortNumber(0) }
    }

    #[test]
    fn as_many_cohorts_are_merged_as_fit_in_one() {
        let cohorts = vec![cohort(1, &[5, 6]), cohort(2, &[1]), cohort(3, &[3]), cohort(4, &[7, 8, 9])];
        let rule = rule(4, ComparedSize::OwnRuns);
        assert_eq!(groups(cohorts, rule), [[1, 3, 5, 6].map(RunNumber)], "the last cohort would be alone");
    }

    #[test]
    fn cohorts_are_merged_if_they_nearly_fill_one_or_are_many() {
        let rule = rule(16, ComparedSize::FullCohort);
        let few = vec![cohort(1, &[1, 2, 3, 4, 5, 6]), cohort(2, &[11, 12, 13, 14, 15])];
        assert!(groups(few.clone(), rule).is_empty());
        let full = [few, vec![cohort(3, &[7])]].concat();
        assert_eq!(groups(full, rule)[0].len(), 12);
        let many = (0..8).map(|number| cohort(number, &[number])).collect();
        assert_eq!(groups(many, rule)[0].len(), 8);
    }
}
