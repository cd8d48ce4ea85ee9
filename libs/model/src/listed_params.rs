//! The rows of the list of runs whose params no cohort has; see `param_cohort`.
//!
//! The value of a row is the time at which the params of a run last changed, in a list of one number; or the token of a cohort,
//! which is a number; or empty, for a new run and after a repair.

use matyan_store::{Key, Result, Value};

use crate::rows;

/// The value of the row of a run whose params change. The time tells the job that collects params whether they change all the
/// time; a new run needs none.
pub(crate) fn changed_params_value(changed_us: Option<i64>) -> Value {
    changed_us.map_or_else(Value::new, |changed_us| rows::encode(&(changed_us,)))
}

/// The time in the row of a run, if there is one.
pub(crate) fn params_changed_us(key: &Key, value: &[u8]) -> Option<i64> {
    // Most rows are of new runs, and an error takes longer than a row.
    if value.is_empty() {
        return None;
    }
    let changed: Result<(i64,)> = rows::decode(key, value);
    changed.ok().map(|(changed_us,)| changed_us)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ids::{CohortNumber, Project, RunNumber},
        keys::{self, CohortKind, ListGeneration},
    };

    #[test]
    fn a_time_is_no_token_of_a_cohort() {
        let project = Project(3);
        let key = keys::uncollected(CohortKind::Params, project, ListGeneration::FIRST, RunNumber(7));
        for time_us in [0_i64, 5, 1_700_000_000_000_000] {
            let value = changed_params_value(Some(time_us));
            assert_eq!(params_changed_us(&key, &value), Some(time_us));
            let token = rows::encode(&CohortNumber(time_us.cast_unsigned()).0);
            assert_ne!(value, token);
            assert_eq!(params_changed_us(&key, &token), None);
        }
        assert_eq!(params_changed_us(&key, &[]), None);
    }
}
