//! Runs: the document with the state of a run, the head that says whether a run id is live, and
//! what ingestion counts.
//!
//! A document is one row, so that listing runs is one scan. It holds the props, followed by the
//! params unless they are large: large params are stored in pieces under the run number. State
//! that changes with every applied record (cursor, counts, time of the last data) is kept
//! elsewhere, so that control writes and ingestion rarely conflict.

mod bin;
mod edit;
mod head;
mod lifecycle;
mod read;
mod sample;
mod staged_producers;
mod staging;
mod writing;

pub use bin::{
    BIN_KEPT_US, BinRow, bin_due_page, bin_purge_begin, bin_purge_end, bin_put, bin_restore, binned_list,
};
pub use edit::RunEdit;
pub use head::{Head, Tombstone, head_get, head_live};
pub use lifecycle::{
    ClearOutcome, Deletion, TombstonesPage, blobs_deleted_put, damaged_run_delete, dead_runs_list,
    number_find, pending_delete_put, run_create, run_delete, sweep_step, tombstone_clear, tombstone_put,
    tombstones_list,
};
pub use read::{
    RunIdPage, RunPage, document_get, documents_get, params_get, params_get_bytes, run_find, run_id_get,
    run_ids_get, run_ids_list, runs_get, runs_list,
};
pub use sample::runs_sample;
pub use staged_producers::{
    StagedProducers, staged_definitions_put, staged_mark_put, staged_producers_link, staged_producers_prepare,
};
pub use staging::{
    RESTORE_KEPT_US, StagedRun, origin_get, staged_begin, staged_drop, staged_drop_old, staged_get,
    staged_link, staged_progress_get, staged_progress_put,
};
pub use writing::{RunVersion, WritingState, run_change_wait, run_version, writing_get, writing_put};

use bytes::Bytes;
use matyan_proto::{common::v1 as api, limits};
use matyan_store::{Key, Result, Value};
use minicbor::{Decode, Encode};

use crate::rows;

/// The time in the bin of a run whose purge has begun, and whose deletion may not be in the log yet. It is before
/// all other times, so that the next purge finds the run first.
const PURGE_BEGUN_US: i64 = 0;

/// All fields of a run except its params. Times are microseconds since the Unix epoch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(array)]
pub struct Props {
    #[n(0)]
    pub run_id: String,
    #[n(1)]
    pub name: String,
    #[n(2)]
    pub description: String,
    /// Receive time of the record that created the run explicitly, even if data came before
    /// it.
    #[n(3)]
    pub created_us: i64,
    /// Time of the last change of props or params.
    #[n(4)]
    pub updated_us: i64,
    #[n(5)]
    pub finalized_us: Option<i64>,
    #[n(6)]
    pub archived: bool,
    #[n(7)]
    pub active: bool,
    #[n(8)]
    pub experiment: Option<String>,
    /// Tag ids, sorted.
    #[n(9)]
    pub tags: Vec<String>,
    /// When the client last reported that it started.
    #[n(10)]
    pub client_start_us: Option<i64>,
    #[n(11)]
    pub duration_us: Option<i64>,
    /// The run that this one was branched from.
    #[n(12)]
    pub parent: Option<Parent>,
    /// Readers hide the run: a delete is in the log, or the run is in the bin.
    #[n(13)]
    pub pending_delete: bool,
    /// When the client first reported that it started; the duration is measured from here.
    #[n(14)]
    pub first_start_us: Option<i64>,
    /// The run was created by data; its start time is not known yet.
    #[n(15)]
    pub is_implicit: bool,
    /// The run was ended because it went silent. Later activity of the run undoes this.
    #[n(16)]
    #[cbor(default)]
    pub is_given_up: bool,
    /// When the run was last reported as active by anything other than data.
    #[n(17)]
    pub reopened_us: Option<i64>,
    /// End of the run, if its client reported it. None while the run is active.
    #[n(18)]
    pub outcome: Option<Outcome>,
    /// When the run was moved to the bin. None unless it is there, and then it is hidden. A time of its own says
    /// that its purge has begun; see `is_in_bin`.
    #[n(19)]
    pub binned_us: Option<i64>,
    /// Name and version of the client that made the run, for people to read; never empty.
    #[n(20)]
    pub client: Option<String>,
    /// The params have no index rows, as they have in stores of formats before 7: they are in a cohort, or in the list of
    /// uncollected params. The first change of the params sets it.
    #[n(21)]
    #[cbor(default)]
    pub is_without_param_rows: bool,
}

/// End of a run, by its client's report.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Hash)]
#[cbor(array)]
pub struct Outcome {
    #[n(0)]
    pub kind: OutcomeKind,
    /// The text of the error, or another remark.
    #[n(1)]
    pub message: String,
}

/// The ways in which a run can end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Hash)]
#[cbor(index_only)]
pub enum OutcomeKind {
    #[n(1)]
    Finished,
    #[n(2)]
    Failed,
    #[n(3)]
    Interrupted,
}

/// Longest message that is kept whole: the document of a run has to fit in a row.
const MESSAGE_BYTES: usize = 4 << 10;

/// The start and the end of a long message, because the end of a traceback names the error.
fn shortened(message: &str) -> String {
    if message.len() <= MESSAGE_BYTES {
        return message.to_owned();
    }
    let beginning = &message[..message.floor_char_boundary(MESSAGE_BYTES / 4)];
    let end = &message[message.ceil_char_boundary(message.len() - MESSAGE_BYTES / 2)..];
    format!("{beginning}\n…\n{end}")
}

impl Outcome {
    /// Returns an outcome of the API as it is stored. None if its kind is unspecified or unknown.
    pub fn from_api(outcome: &api::Outcome) -> Option<Self> {
        let kind = match outcome.kind() {
            api::OutcomeKind::Unspecified => return None,
            api::OutcomeKind::Finished => OutcomeKind::Finished,
            api::OutcomeKind::Failed => OutcomeKind::Failed,
            api::OutcomeKind::Interrupted => OutcomeKind::Interrupted,
        };
        Some(Self { kind, message: shortened(&outcome.message) })
    }

    pub fn to_api(&self) -> api::Outcome {
        api::Outcome { kind: self.kind.to_api().into(), message: self.message.clone() }
    }
}

impl OutcomeKind {
    pub fn to_api(self) -> api::OutcomeKind {
        match self {
            Self::Finished => api::OutcomeKind::Finished,
            Self::Failed => api::OutcomeKind::Failed,
            Self::Interrupted => api::OutcomeKind::Interrupted,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode, Hash)]
#[cbor(array)]
pub struct Parent {
    #[n(0)]
    pub number: u64,
    #[n(1)]
    pub step: Option<i64>,
}

impl Props {
    pub fn new(run_id: &str, created_us: i64) -> Self {
        Self {
            run_id: run_id.to_owned(),
            name: matyan_value::spoken_name(run_id),
            created_us,
            updated_us: created_us,
            active: true,
            is_implicit: true,
            ..Self::default()
        }
    }

    /// Records that the run was created explicitly. The first such time replaces the time
    /// of the first data.
    pub fn set_created(&mut self, created_us: i64) {
        if std::mem::take(&mut self.is_implicit) {
            self.created_us = created_us;
        }
    }

    /// Whether the run is in the bin, from which it can be brought back.
    pub fn is_in_bin(&self) -> bool {
        self.binned_us.is_some_and(|binned_us| binned_us != PURGE_BEGUN_US)
    }

    /// Whether the run is hidden for good: its deletion is in the log, or is about to be.
    pub fn is_deleted(&self) -> bool {
        self.pending_delete && !self.is_in_bin()
    }

    /// Whether another tag fits. With as many as possible, and a description and params as long as
    /// possible, the document still fits in a row.
    pub fn has_room_for_tags(&self) -> bool {
        self.tags.len() < limits::TAGS_PER_RUN
    }

    /// Ends a silent run, as of its last activity.
    pub fn give_up(&mut self, last_us: i64) {
        self.active = false;
        self.finalized_us = Some(last_us);
        self.is_given_up = true;
    }

    /// When the run ended: by the client's clock if it reported both ends, otherwise when
    /// the end was received.
    pub fn ended_us(&self) -> Option<i64> {
        match self.duration_us {
            Some(duration) => Some(self.created_us.saturating_add(duration)),
            None => self.finalized_us,
        }
    }
}

/// Where the params of a run are stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Params {
    /// An encoded map.
    Inline(Bytes),
    /// In rows under the run number.
    Pieces,
}

impl Params {
    /// An encoded empty map.
    pub(crate) fn none() -> Self {
        Self::Inline(Bytes::from_static(&[0xa0]))
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    pub props: Props,
    pub params: Params,
}

impl Document {
    /// Decodes a document. The params share memory with `value`.
    pub(crate) fn decode(key: &Key, value: &Value) -> Result<Self> {
        let body = rows::body(key, value)?;
        let mut decoder = minicbor::Decoder::new(body);
        let props = decoder.decode().map_err(|error| rows::corrupt(key, &error))?;
        let params = match &body[decoder.position()..] {
            // An encoded map has at least one byte, so an empty rest means that the params are in
            // pieces.
            [] => Params::Pieces,
            params => Params::Inline(value.slice_ref(params)),
        };
        Ok(Self { props, params })
    }

    pub(crate) fn encode(&self) -> Value {
        match &self.params {
            Params::Inline(params) => [rows::encode(&self.props), params.clone()].concat().into(),
            Params::Pieces => rows::encode(&self.props),
        }
    }
}

#[cfg(test)]
mod tests;
