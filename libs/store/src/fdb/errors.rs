//! The meaning of FoundationDB's error codes for this store.

use std::sync::Arc;

use foundationdb::FdbError;

use crate::{Batch, Error, Limits};

const TRANSACTION_TOO_OLD: i32 = 1007;
const FUTURE_VERSION: i32 = 1009;
const NOT_COMMITTED: i32 = 1020;
const PROCESS_BEHIND: i32 = 1037;
/// Error codes caused by incorrect use of the API.
const OF_CALLERS: std::ops::Range<i32> = 2_000..3_000;
const KEY_OUTSIDE_LEGAL_RANGE: i32 = 2003;
const TRANSACTION_TOO_LARGE: i32 = 2101;
const KEY_TOO_LARGE: i32 = 2102;

/// What is known about a commit that was not acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Not applied, and never will be: data that it read or checked has changed, or its
    /// read version is too old.
    Overtaken,
    /// Not applied, and never will be; the same commit may succeed later.
    Busy,
    /// Not applied: the transaction is too large.
    TooLarge,
    /// Not applied, and no retry helps.
    Misused,
    /// May have been applied, or may still be; its token shows which.
    Unknown,
}

impl Refusal {
    pub(super) fn of(error: FdbError) -> Self {
        match error.code() {
            NOT_COMMITTED | TRANSACTION_TOO_OLD => Self::Overtaken,
            TRANSACTION_TOO_LARGE => Self::TooLarge,
            code if OF_CALLERS.contains(&code) => Self::Misused,
            _ if error.is_retryable_not_committed() => Self::Busy,
            _ => Self::Unknown,
        }
    }
}

/// Converts the error of a call. Most errors mean that the cluster is unavailable.
pub(super) fn failed(error: FdbError) -> Error {
    let reason = format!("FoundationDB reports: {} ({})", error.message(), error.code());
    match error.code() {
        KEY_OUTSIDE_LEGAL_RANGE | KEY_TOO_LARGE => {
            Error::BadKey { reason: "is not accepted by FoundationDB" }
        }
        code if OF_CALLERS.contains(&code) => Error::Settings { reason },
        _ => Error::Unavailable { reason, source: Some(Arc::new(error)) },
    }
}

/// Converts the error of a read.
pub(super) fn reading(error: FdbError) -> Error {
    if error.code() == TRANSACTION_TOO_OLD { Error::SnapshotTooOld } else { failed(error) }
}

/// True if the contacted server has not reached the requested version yet.
pub(super) fn is_behind(error: FdbError) -> bool {
    [FUTURE_VERSION, PROCESS_BEHIND].contains(&error.code())
}

pub(super) fn too_large(batch: &Batch) -> Error {
    Error::TooLarge { what: "batch", size: batch.bytes(), max: Limits::BATCH_BYTES }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn incorrect_use_is_not_reported_as_unavailability() {
        let check = |code, refusal, is_temporary| {
            let error = FdbError::from_code(code);
            assert_eq!((Refusal::of(error), failed(error).is_temporary()), (refusal, is_temporary), "{code}");
        };
        check(1021, Refusal::Unknown, true);
        check(1020, Refusal::Overtaken, true);
        check(2000, Refusal::Misused, false);
        check(2102, Refusal::Misused, false);
        check(2103, Refusal::Misused, false);
        assert_eq!(Refusal::of(FdbError::from_code(2101)), Refusal::TooLarge);
    }
}
