//! The meaning of FoundationDB's error codes for this store.

use std::sync::Arc;

use foundationdb::FdbError;

use crate::{Batch, Error, Limits};

const TRANSACTION_TOO_OLD: i32 = 1007;
const FUTURE_VERSION: i32 = 1009;
const NOT_COMMITTED: i32 = 1020;
const PROCESS_BEHIND: i32 = 1037;
/// Error codes caused by incorrect use of the API.
const CALLER_ERRORS: std::ops::Range<i32> = 2_000..3_000;
const KEY_OUTSIDE_LEGAL_RANGE: i32 = 2003;
const TRANSACTION_TOO_LARGE: i32 = 2101;
const KEY_TOO_LARGE: i32 = 2102;

/// The fate of a commit that was not acknowledged, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CommitFailure {
    /// Not applied, and never will be: data that it read or checked has changed, or its
    /// read version is too old.
    Conflict,
    /// Not applied, and never will be; the same commit may succeed later.
    Busy,
    /// Not applied: the transaction is too large.
    TooLarge,
    /// Not applied, and no retry helps.
    InvalidUse,
    /// May have been applied, or may still be; its token shows which.
    Unknown,
}

impl CommitFailure {
    pub(super) fn from_error(error: FdbError) -> Self {
        match error.code() {
            NOT_COMMITTED | TRANSACTION_TOO_OLD => Self::Conflict,
            TRANSACTION_TOO_LARGE => Self::TooLarge,
            code if CALLER_ERRORS.contains(&code) => Self::InvalidUse,
            _ if error.is_retryable_not_committed() => Self::Busy,
            _ => Self::Unknown,
        }
    }
}

/// Converts the error of a call. Most errors mean that the cluster is unavailable.
pub(super) fn call_error(error: FdbError) -> Error {
    let reason = format!("FoundationDB reports: {} ({})", error.message(), error.code());
    match error.code() {
        KEY_OUTSIDE_LEGAL_RANGE | KEY_TOO_LARGE => {
            Error::BadKey { reason: "is not accepted by FoundationDB" }
        }
        code if CALLER_ERRORS.contains(&code) => Error::Settings { reason },
        _ => Error::Unavailable { reason, source: Some(Arc::new(error)) },
    }
}

/// Converts the error of a read.
pub(super) fn read_error(error: FdbError) -> Error {
    if error.code() == TRANSACTION_TOO_OLD { Error::SnapshotTooOld } else { call_error(error) }
}

/// True if the contacted server has not reached the requested version yet.
pub(super) fn is_version_unreached(error: FdbError) -> bool {
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
        fn check(code: i32, expected: CommitFailure, is_temporary: bool) {
            let error = FdbError::from_code(code);
            assert_eq!(
                (CommitFailure::from_error(error), call_error(error).is_temporary()),
                (expected, is_temporary),
                "{code}"
            );
        }
        check(1021, CommitFailure::Unknown, true);
        check(1020, CommitFailure::Conflict, true);
        check(2000, CommitFailure::InvalidUse, false);
        check(2102, CommitFailure::InvalidUse, false);
        check(2103, CommitFailure::InvalidUse, false);
        assert_eq!(CommitFailure::from_error(FdbError::from_code(2101)), CommitFailure::TooLarge);
    }
}
