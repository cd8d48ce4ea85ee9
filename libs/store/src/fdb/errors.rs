//! What the error codes of FoundationDB mean to us.

use std::sync::Arc;

use foundationdb::FdbError;

use crate::{Batch, Error, Limits};

const TRANSACTION_TOO_OLD: i32 = 1007;
const FUTURE_VERSION: i32 = 1009;
const NOT_COMMITTED: i32 = 1020;
const PROCESS_BEHIND: i32 = 1037;
/// From here on errors are of whoever called.
const OF_CALLERS: std::ops::Range<i32> = 2_000..3_000;
const KEY_OUTSIDE_LEGAL_RANGE: i32 = 2003;
const TRANSACTION_TOO_LARGE: i32 = 2101;
const KEY_TOO_LARGE: i32 = 2102;

/// What is known of a commit that was not acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Not applied, and never will be: something that it read or checked has changed, or is too long ago to tell.
    Overtaken,
    /// Not applied, and never will be; the same may succeed later.
    Busy,
    /// Not applied: it does not fit.
    TooLarge,
    /// Not applied, and no retry helps.
    Misused,
    /// Perhaps applied, perhaps later: its token tells.
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

/// What a call failed with: most likely the cluster is away.
pub(super) fn failed(error: FdbError) -> Error {
    let reason = format!("FoundationDB says {} ({})", error.message(), error.code());
    match error.code() {
        KEY_OUTSIDE_LEGAL_RANGE | KEY_TOO_LARGE => {
            Error::BadKey { reason: "is one that FoundationDB does not take" }
        }
        code if OF_CALLERS.contains(&code) => Error::Settings { reason },
        _ => Error::Unavailable { reason, source: Some(Arc::new(error)) },
    }
}

/// Why something cannot be read.
pub(super) fn reading(error: FdbError) -> Error {
    if error.code() == TRANSACTION_TOO_OLD { Error::SnapshotTooOld } else { failed(error) }
}

/// The server that was asked has not come so far yet.
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
    fn what_a_caller_did_wrong_is_no_absence() {
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
