//! Quotas of projects: the largest numbers of runs, series and bytes that a project may have, which are compared
//! with its counters.
//!
//! A quota is soft. Data is acknowledged before the counters of its project change, and everything that was
//! acknowledged is stored, so a project may exceed its quotas by what it sends in the meantime. Deleted runs free
//! their part once their counters are changed: runs in the bin still count.

use std::collections::BTreeMap;

use matyan_proto::project::v1::{ExceededQuota, QuotaKind};
use matyan_store::{Key, Result, Snapshot};

use crate::{
    entity,
    ids::NamedProject,
    keys::{self, Counter},
    rows,
};

/// The quotas of all projects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProjectQuotas {
    pub runs: Quota,
    pub series: Quota,
    pub bytes: Quota,
}

/// A limit of all projects, with exceptions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    /// The limit of projects without their own limit; 0: no limit.
    pub limit: u64,
    /// Limits of projects by name, in place of `limit`; 0: no limit. The name of the default project is empty.
    pub project_limits: BTreeMap<String, u64>,
}

impl Quota {
    /// The limit of a project; 0: no limit.
    pub fn of_project(&self, name: &str) -> u64 {
        self.project_limits.get(name).copied().unwrap_or(self.limit)
    }
}

impl ProjectQuotas {
    /// Whether a project has no limit of any kind.
    pub fn is_unlimited(&self, name: &str) -> bool {
        self.limits(name).iter().all(|(.., limit)| *limit == 0)
    }

    /// Returns a quota that a project has used up. If it has used up several quotas, a quota that refuses all
    /// data is returned. A damaged counter uses up no quota.
    pub async fn exceeded(
        &self,
        snapshot: &dyn Snapshot,
        project: &NamedProject,
    ) -> Result<Option<ExceededQuota>> {
        let limits = self.limits(&project.name).into_iter().filter(|(.., limit)| *limit > 0);
        let limits: Vec<_> = limits.collect();
        if limits.is_empty() {
            return Ok(None);
        }
        let counters = limits.iter().map(|(_, counter, _)| keys::project_counter(project.number, *counter));
        let counters: Vec<_> = counters.collect();
        let counts = snapshot.get_many(&counters).await?;
        for (at, (kind, _, limit)) in limits.into_iter().enumerate() {
            let used = used(&counters[at], counts[at].as_deref());
            if used >= limit {
                return Ok(Some(ExceededQuota { kind: kind.into(), limit, used }));
            }
        }
        Ok(None)
    }

    /// The limits of a project. Those that refuse all data come first.
    fn limits(&self, name: &str) -> [(QuotaKind, Counter, u64); 3] {
        [
            (QuotaKind::Bytes, Counter::Bytes, self.bytes.of_project(name)),
            (QuotaKind::Series, Counter::Series, self.series.of_project(name)),
            (QuotaKind::Runs, Counter::Runs, self.runs.of_project(name)),
        ]
    }
}

/// The count of a stored counter, which may be absent. A damaged counter must not refuse the data of its project.
fn used(counter: &Key, stored: Option<&[u8]>) -> u64 {
    let count = match stored.map(|stored| entity::decode_counter(counter, stored)).transpose() {
        Ok(count) => count.unwrap_or_default(),
        Err(error) => {
            if rows::is_first_report(&error) {
                tracing::error!(
                    %error,
                    "accepted data without regard to a quota, because the counter of its project is damaged; a \
                     restore of a backup counts again"
                );
            }
            0
        }
    };
    // A restored store may briefly count less than nothing.
    u64::try_from(count).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use matyan_store::{Batch, Store as _};

    use super::*;
    use crate::{ids::Project, testing::TestStore};

    fn quota(limit: u64, project_limits: &[(&str, u64)]) -> Quota {
        let project_limits = project_limits.iter().map(|(name, limit)| ((*name).to_owned(), *limit));
        Quota { limit, project_limits: project_limits.collect() }
    }

    #[test]
    fn a_limit_of_a_project_replaces_the_limit_of_all() {
        let quotas =
            ProjectQuotas { runs: quota(5, &[("demo", 0), ("speech", 9)]), ..ProjectQuotas::default() };
        for (name, limit) in [("", 5), ("vision", 5), ("speech", 9), ("demo", 0)] {
            assert_eq!(quotas.runs.of_project(name), limit, "{name}");
            assert_eq!(quotas.is_unlimited(name), limit == 0, "{name}");
        }
        assert!(ProjectQuotas::default().is_unlimited(""));
    }

    #[tokio::test]
    async fn a_quota_is_used_up_once_a_counter_reaches_its_limit() {
        let store = TestStore::open().await;
        let project = NamedProject { number: Project(7), name: "speech".to_owned() };
        let mut batch = Batch::default();
        for (counter, count) in [(Counter::Runs, 2), (Counter::Series, 20), (Counter::Bytes, 200)] {
            batch.add(keys::project_counter(project.number, counter), count);
        }
        store.commit(batch).await.unwrap();
        let snapshot = store.snapshot().await.unwrap();
        let exceeded = async |runs, series, bytes| {
            let quotas = ProjectQuotas {
                runs: quota(runs, &[]),
                series: quota(series, &[]),
                bytes: quota(bytes, &[("speech", bytes)]),
            };
            let exceeded = quotas.exceeded(&*snapshot, &project).await.unwrap();
            exceeded.map(|exceeded| (exceeded.kind(), exceeded.limit, exceeded.used))
        };
        assert_eq!(exceeded(0, 0, 0).await, None);
        assert_eq!(exceeded(3, 21, 201).await, None);
        assert_eq!(exceeded(2, 21, 201).await, Some((QuotaKind::Runs, 2, 2)));
        assert_eq!(exceeded(2, 5, 201).await, Some((QuotaKind::Series, 5, 20)));
        assert_eq!(exceeded(2, 5, 200).await, Some((QuotaKind::Bytes, 200, 200)));
        // Another project has used nothing.
        let other = NamedProject { number: Project(8), name: "vision".to_owned() };
        let quotas = ProjectQuotas { runs: quota(1, &[]), ..ProjectQuotas::default() };
        assert_eq!(quotas.exceeded(&*snapshot, &other).await.unwrap(), None);
    }

    #[tokio::test]
    async fn rule_132_a_damaged_counter_uses_up_no_quota() {
        let store = TestStore::open().await;
        let project = NamedProject { number: Project(7), name: "speech".to_owned() };
        let mut batch = Batch::default();
        batch.set(keys::project_counter(project.number, Counter::Bytes), vec![0xff; 3]);
        batch.add(keys::project_counter(project.number, Counter::Runs), 2);
        store.commit(batch).await.unwrap();
        let snapshot = store.snapshot().await.unwrap();
        let mut quotas = ProjectQuotas { bytes: quota(1, &[]), ..ProjectQuotas::default() };
        assert_eq!(quotas.exceeded(&*snapshot, &project).await.unwrap(), None);
        // Other quotas of the project are applied.
        quotas.runs = quota(2, &[]);
        let exceeded = quotas.exceeded(&*snapshot, &project).await.unwrap();
        assert_eq!(exceeded.map(|exceeded| exceeded.kind()), Some(QuotaKind::Runs));
    }
}
