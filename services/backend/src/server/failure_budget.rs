//! The number of calls without effect that get an entry in the audit log. Callers can repeat a call that changes
//! nothing as often as they like, whether it fails or succeeds, and also a call that they abandon. So only a few such
//! calls of each principal are listed. All of them are called failures here.

use std::{collections::HashMap, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::error::DONE;

/// Time for which failures are counted together.
const PERIOD: Duration = Duration::from_secs(3_600);

/// Maximum number of failed calls of one principal in a period that have an entry.
const MAX_OF_PRINCIPAL: u32 = 100;

/// Maximum number of principals that are counted in a period. Failed calls of others have no entry.
const MAX_PRINCIPALS: usize = 10_000;

/// Counts the failed calls of the current period.
#[derive(Default)]
pub(crate) struct FailureBudget(Mutex<Period>);

#[derive(Default)]
struct Period {
    began: Option<Instant>,
    of_principals: HashMap<String, u32>,
}

impl FailureBudget {
    /// Counts a failed call, and returns whether it has an entry. Logs a warning for the first call of a principal that
    /// has no entry.
    pub(crate) fn admit(&self, principal: &str) -> bool {
        let number = self.count(principal);
        if number == MAX_OF_PRINCIPAL + 1 {
            tracing::warn!(target: "audit", principal, "further calls that fail or change nothing get no audit entry for up to an hour");
        }
        number <= MAX_OF_PRINCIPAL
    }

    /// Counts a failed call. Returns how many its principal has made in this period, or `u32::MAX` if the principal is
    /// not counted.
    fn count(&self, principal: &str) -> u32 {
        let now = Instant::now();
        let mut period = self.0.lock();
        if period.began.is_none_or(|began| now - began >= PERIOD) {
            *period = Period { began: Some(now), of_principals: HashMap::new() };
        }
        if let Some(count) = period.of_principals.get_mut(principal) {
            *count = count.saturating_add(1);
            return *count;
        }
        if period.of_principals.len() >= MAX_PRINCIPALS {
            return u32::MAX;
        }
        period.of_principals.insert(principal.to_owned(), 1);
        1
    }
}

/// Whether calls with this status are counted: they have changed nothing, or their client has abandoned them.
pub(crate) fn is_limited(status: &Status) -> bool {
    status.code() == Code::Cancelled || has_changed_nothing(status)
}

/// Whether a call with this status has changed nothing. A call that fails for another reason than its request may have
/// had its effect. A batch that ended early says how much of it is done.
fn has_changed_nothing(status: &Status) -> bool {
    let is_refusal = matches!(
        status.code(),
        Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::ResourceExhausted
            | Code::FailedPrecondition
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unimplemented
    );
    let details = status.get_error_details();
    is_refusal && details.error_info().is_none_or(|info| !info.metadata.contains_key(DONE))
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;
    use crate::server::error::Error;

    #[tokio::test(start_paused = true)]
    async fn failures_are_counted_by_principal_and_hour() {
        let budget = FailureBudget::default();
        let admitted = |principal: &str| (0..1_000).filter(|_| budget.admit(principal)).count();
        assert_eq!(admitted("ana"), 100);
        assert_eq!(admitted("bo"), 100);
        assert_eq!([budget.count("ana"), budget.count("cy")], [1_001, 1]);
        advance(PERIOD).await;
        assert_eq!(admitted("ana"), 100);
        let others = (0..2 * MAX_PRINCIPALS).filter(|number| budget.admit(&number.to_string())).count();
        assert_eq!(others, MAX_PRINCIPALS - 1, "ana is counted as well");
        assert_eq!(budget.0.lock().of_principals.len(), MAX_PRINCIPALS);
    }

    #[test]
    fn refused_and_abandoned_calls_are_counted() {
        let is_counted = |error: Error| is_limited(&Status::from(error));
        let missing = || Error::not_found("run", "r");
        assert!(is_counted(missing()));
        assert!(is_counted(missing().after(0)));
        assert!(!is_counted(missing().after(1)), "one run is done");
        assert!(!is_counted(Error::Stopping));
        assert!(!is_limited(&Status::ok("")));
        assert!(is_limited(&Status::cancelled("")));
    }
}
