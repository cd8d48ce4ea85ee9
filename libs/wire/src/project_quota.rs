//! The refusal of data by a project that has used up a quota. Frontiers and backends refuse data in the same
//! words, and the edge recognizes the refusal by its metadata.

use std::fmt;

use matyan_proto::project::v1::{ExceededQuota, QuotaKind};

/// Metadata of the error with the kind of the quota.
pub const QUOTA: &str = "quota";

/// Names of the quotas, in the metadata of errors and in metrics.
pub const QUOTA_NAMES: [&str; 3] = ["runs", "series", "bytes"];

/// The error of a call that brings data to a project that has used up a quota.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuotaExceeded {
    /// Empty for the default project.
    project: String,
    kind: QuotaKind,
    limit: u64,
    used: u64,
}

impl QuotaExceeded {
    pub fn new(project: &str, exceeded: ExceededQuota) -> Self {
        let kind = exceeded.kind();
        let ExceededQuota { limit, used, .. } = exceeded;
        Self { project: project.to_owned(), kind, limit, used }
    }

    /// One of `QUOTA_NAMES`, or `unknown`.
    pub fn quota_name(&self) -> &'static str {
        self.words().map_or("unknown", |words| words.name)
    }

    /// Metadata of the error.
    pub fn metadata(&self) -> [(&'static str, String); 2] {
        [(QUOTA, self.quota_name().to_owned()), ("limit", self.limit.to_string())]
    }

    /// `None` for a kind of quota that only a newer backend knows.
    fn words(&self) -> Option<QuotaWords> {
        Some(match self.kind {
            QuotaKind::Runs => QuotaWords {
                name: "runs",
                refused: "new runs are",
                setting_of_all: "max_project_runs",
                setting: "project_runs",
            },
            QuotaKind::Series => QuotaWords {
                name: "series",
                refused: "data for it is",
                setting_of_all: "max_project_series",
                setting: "project_series",
            },
            QuotaKind::Bytes => QuotaWords {
                name: "bytes",
                refused: "data for it is",
                setting_of_all: "max_project_bytes",
                setting: "project_bytes",
            },
            QuotaKind::Unspecified => return None,
        })
    }
}

/// The words for a kind of quota.
struct QuotaWords {
    name: &'static str,
    refused: &'static str,
    setting_of_all: &'static str,
    setting: &'static str,
}

impl fmt::Display for QuotaExceeded {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let project = match self.project.as_str() {
            "" => "the default project".to_owned(),
            project => format!("the project `{project}`"),
        };
        let Self { limit, used, .. } = self;
        let Some(QuotaWords { name, refused, setting_of_all, setting }) = self.words() else {
            return write!(
                formatter,
                "{project} has used up a quota that this version does not know ({used} of {limit}), so data for it is \
                 refused: delete runs and empty the bin, or ask the operator to raise the quota; until then, keep the \
                 data and try again"
            );
        };
        write!(
            formatter,
            "{project} has used up its quota of {name} ({used} of {limit}), so {refused} refused: delete runs and \
             empty the bin, or ask the operator to raise `{setting_of_all}`, or `{setting}` for this project; until \
             then, keep the data and try again"
        )
    }
}

impl std::error::Error for QuotaExceeded {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_which_quota_and_who_can_raise_it() {
        for (project, kind, start, setting) in [
            (
                "",
                QuotaKind::Runs,
                "the default project has used up its quota of runs (9 of 8)",
                "project_runs",
            ),
            (
                "speech",
                QuotaKind::Series,
                "the project `speech` has used up its quota of series (9 of 8)",
                "project_series",
            ),
            (
                "speech",
                QuotaKind::Bytes,
                "the project `speech` has used up its quota of bytes (9 of 8)",
                "project_bytes",
            ),
        ] {
            let exceeded = ExceededQuota { kind: kind.into(), limit: 8, used: 9 };
            let refusal = QuotaExceeded::new(project, exceeded);
            assert!(QUOTA_NAMES.contains(&refusal.quota_name()), "{refusal:?}");
            let text = refusal.to_string();
            assert!(text.starts_with(start), "{text}");
            let settings = [format!("`max_{setting}`"), format!("`{setting}`")];
            assert!(settings.iter().all(|setting| text.contains(setting)), "{text}");
        }
    }

    #[test]
    fn a_refusal_has_the_quota_in_its_metadata() {
        let exceeded = ExceededQuota { kind: QuotaKind::Runs.into(), limit: 8, used: 9 };
        let metadata = QuotaExceeded::new("", exceeded).metadata();
        assert_eq!(metadata, [(QUOTA, "runs".to_owned()), ("limit", "8".to_owned())]);
    }

    #[test]
    fn a_refusal_of_a_newer_backend_names_no_setting() {
        let exceeded = ExceededQuota { kind: 1_000, limit: 8, used: 9 };
        let refusal = QuotaExceeded::new("speech", exceeded);
        let text = refusal.to_string();
        assert!(
            text.starts_with("the project `speech` has used up a quota that this version does not"),
            "{text}"
        );
        assert_eq!(text.matches('`').count(), 2, "{text}");
        assert_eq!(refusal.metadata()[0], (QUOTA, "unknown".to_owned()));
    }
}
