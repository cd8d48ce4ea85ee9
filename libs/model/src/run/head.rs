//! The head of a run id: it holds the live run number, or a tombstone that forbids one.

use matyan_store::{Key, Result, Snapshot, Transaction, Value};
use minicbor::{Decode, Encode};

use crate::{
    ids::{Project, RunId, RunNumber},
    keys,
    position::LogPosition,
    rows,
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Head {
    Live(RunNumber),
    Tombstone(Tombstone),
}

/// Marks a run id as deleted: every record for it is skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Tombstone {
    /// The run number that was live; `None` if there was no run to delete.
    #[n(0)]
    pub number: Option<u64>,
    /// Position of the delete in the log.
    #[n(1)]
    pub at: LogPosition,
    #[n(2)]
    pub deleted_us: i64,
    /// The control worker has deleted all blobs under the run id.
    #[n(3)]
    pub blobs_deleted: bool,
}

#[derive(Encode, Decode)]
#[cbor(array)]
struct HeadRow {
    #[n(0)]
    live: Option<u64>,
    #[n(1)]
    tombstone: Option<Tombstone>,
}

impl Head {
    pub fn decode(key: &Key, value: &Value) -> Result<Self> {
        match rows::decode(key, value)? {
            HeadRow { live: Some(number), tombstone: None } => Ok(Self::Live(RunNumber(number))),
            HeadRow { live: None, tombstone: Some(tombstone) } => Ok(Self::Tombstone(tombstone)),
            _ => Err(rows::corrupt(key, &"a head is either live or a tombstone")),
        }
    }

    pub fn encode(&self) -> Value {
        let row = match self {
            Self::Live(number) => HeadRow { live: Some(number.0), tombstone: None },
            Self::Tombstone(tombstone) => HeadRow { live: None, tombstone: Some(*tombstone) },
        };
        rows::encode(&row)
    }
}

pub async fn head_get(snapshot: &dyn Snapshot, project: Project, id: &RunId) -> Result<Option<Head>> {
    let key = keys::head(project, id);
    snapshot.get(&key).await?.map(|value| Head::decode(&key, &value)).transpose()
}

pub async fn head_live(snapshot: &dyn Snapshot, project: Project, id: &RunId) -> Result<Option<RunNumber>> {
    Ok(match head_get(snapshot, project, id).await? {
        Some(Head::Live(number)) => Some(number),
        Some(Head::Tombstone(_)) | None => None,
    })
}

/// Like `head_get`, but the transaction fails if the head changes in the meantime.
pub(super) async fn head_checked(
    transaction: &Transaction,
    project: Project,
    id: &RunId,
) -> Result<Option<Head>> {
    let key = keys::head(project, id);
    transaction.get(&key).await?.map(|value| Head::decode(&key, &value)).transpose()
}
