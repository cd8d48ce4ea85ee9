//! A writer's cache of its run between transactions. It holds only what no other process
//! writes, and only as long as the cursor is unchanged.

use std::collections::HashMap;

use matyan_model::{
    ids::{ProducerId, RunNumber, SeriesNumber},
    keys,
    object::ObjectHeader,
    position::Cursor,
    producer::Mark,
    run::{Head, WritingState, writing_get},
};
use matyan_store::{Snapshot, Value};

use super::{ApplyFailure, RunKey, dictionary::Dictionary};

#[derive(Debug, Default)]
pub(super) struct RunState {
    pub(super) cursor: Cursor,
    /// The stored row, which the next transaction expects.
    pub(super) cursor_value: Option<Value>,
    pub(super) head: Option<Head>,
    pub(super) head_value: Option<Value>,
    /// State of the live run; reset after each delete.
    pub(super) live: LiveState,
    pub(super) producers: HashMap<ProducerId, ProducerState>,
}

#[derive(Debug, Default)]
pub(super) struct LiveState {
    pub(super) writing: WritingState,
    /// By series number; series that are new to this writer are unknown.
    pub(super) series: Vec<SeriesState>,
    pub(super) dtypes: Dtypes,
    /// By name and context digest.
    pub(super) objects: HashMap<(String, [u8; 16]), (SeriesNumber, ObjectHeader)>,
}

/// Cached properties of a metric series.
#[derive(Clone, Copy, Debug)]
pub(super) struct SeriesState {
    /// Type in the header, including pending changes.
    pub(super) dtype: u16,
    /// Whether `highest` includes steps stored before this writer first used the series.
    pub(super) is_complete: bool,
    pub(super) highest: Option<i64>,
}

impl Default for SeriesState {
    fn default() -> Self {
        Self { dtype: Dtypes::UNKNOWN, is_complete: false, highest: None }
    }
}

/// Interned type names, so that points compare numbers.
#[derive(Debug, Default)]
pub(super) struct Dtypes(Vec<String>);

impl Dtypes {
    pub(super) const UNKNOWN: u16 = u16::MAX;

    /// Maximum number of interned names. If a run has more, its headers are rewritten more
    /// often than they change, which is harmless.
    const MAX: usize = 1_000;

    pub(super) fn number(&mut self, dtype: &str) -> u16 {
        let dtype = if dtype.is_empty() { DEFAULT_DTYPE } else { dtype };
        let known = self.0.iter().position(|known| known == dtype);
        let number = known.unwrap_or_else(|| {
            if self.0.len() < Self::MAX {
                self.0.push(dtype.to_owned());
                self.0.len() - 1
            } else {
                usize::from(Self::UNKNOWN)
            }
        });
        number as u16
    }
}

pub(super) const DEFAULT_DTYPE: &str = "float";

#[derive(Debug, Default)]
pub(super) struct ProducerState {
    pub(super) mark: Mark,
    /// Whether the mark has a row in the store.
    pub(super) is_known: bool,
    pub(super) dictionary: Option<Dictionary>,
}

/// Maximum number of producers cached per run: each connection is a new one, and old ones
/// rarely return.
const MAX_PRODUCERS: usize = 64;

impl RunState {
    pub(super) async fn load(snapshot: &dyn Snapshot, run: &RunKey) -> Result<Self, ApplyFailure> {
        let (cursor_key, head_key) = (keys::cursor(run.project, &run.id), keys::head(run.project, &run.id));
        let mut values = snapshot.get_many(&[cursor_key.clone(), head_key.clone()]).await?;
        let head_value = values.pop().flatten();
        let cursor_value = values.pop().flatten();
        let cursor = cursor_value.as_ref().map(|value| Cursor::decode(&cursor_key, value)).transpose()?;
        let head = head_value.as_ref().map(|value| Head::decode(&head_key, value)).transpose()?;
        let mut state =
            Self { cursor: cursor.unwrap_or_default(), cursor_value, head, head_value, ..Self::default() };
        if let Some(number) = state.live_number() {
            state.live.writing = writing_get(snapshot, run.project, number).await?;
        }
        Ok(state)
    }

    pub(super) fn live_number(&self) -> Option<RunNumber> {
        match self.head {
            Some(Head::Live(number)) => Some(number),
            Some(Head::Tombstone(_)) | None => None,
        }
    }

    pub(super) fn is_dead(&self) -> bool {
        matches!(self.head, Some(Head::Tombstone(_)))
    }

    /// Evicts the producers that have been silent the longest, if there are too many.
    pub(super) fn trim_producers(&mut self) {
        if self.producers.len() > MAX_PRODUCERS {
            let mut seen: Vec<i64> = self.producers.values().map(|producer| producer.mark.seen_us).collect();
            seen.sort_unstable();
            let middle = seen[seen.len() / 2];
            self.producers.retain(|_, producer| producer.mark.seen_us > middle);
        }
    }

    /// Approximate memory use.
    pub(super) fn bytes(&self) -> usize {
        let dictionaries = self.producers.values().filter_map(|producer| producer.dictionary.as_ref());
        let dictionaries: usize = dictionaries.map(Dictionary::bytes).sum();
        let objects: usize = self.live.objects.keys().map(|(name, _)| 2 * name.len() + 128).sum();
        size_of::<Self>() + self.live.series.capacity() * size_of::<SeriesState>() + dictionaries + objects
    }
}
