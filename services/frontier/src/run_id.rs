//! The id of a run, checked.

use std::fmt;

use matyan_blob::is_valid_folder_name;
use matyan_proto::limits;

use crate::error::{Error, Result};

/// Reserved prefix of run ids: in streams keyed by run id, clients interpret such keys as
/// progress messages.
const PROGRESS: &str = "progress";

/// Run id chosen by the client.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RunId(String);

impl RunId {
    pub(crate) fn parse(run_id: String) -> Result<Self, String> {
        if run_id.is_empty() {
            Err("is empty".into())
        } else if run_id.len() > limits::RUN_ID_BYTES {
            Err(format!("is longer than {} bytes", limits::RUN_ID_BYTES))
        } else if !is_valid_folder_name(&run_id) {
            Err("is a reserved name, or contains a `/` or a control character".into())
        } else if run_id.starts_with(PROGRESS) {
            Err(format!("begins with `{PROGRESS}`, which is reserved"))
        } else {
            Ok(Self(run_id))
        }
    }

    pub(crate) fn from_field(run_id: String) -> Result<Self> {
        Self::parse(run_id).map_err(|reason| Error::field("run_id", format!("{reason}: choose another")))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
