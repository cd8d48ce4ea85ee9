//! Parked items in a backup: items that could not be applied, and the records of a run in quarantine. All
//! of them come before the run's cursor in the archive, so no record of the log is lost between the two.

use matyan_model::{
    ids::{ProducerId, Project, RunId},
    keys::{self, ItemPosition, RESTORED_LOG},
    parked::{ParkedItem, ParkedRecord, parked_list},
    position::{Cursor, LogPosition, cursor_get},
    producer::{BatchOrigin, BatchPart},
    quarantine::{Quarantine, quarantine_get},
};
use matyan_proto::{backup::v1 as pb, limits};
use matyan_store::{Range, Scan, Snapshot};

use crate::server::{
    convert::check_limit,
    error::{Error, Result},
};

/// Parked items that are read together; a page also ends after a number of bytes.
const PAGE_ITEMS: usize = 256;

/// The parked items of a run, as of one snapshot.
pub(super) struct OpenParked {
    quarantine: Option<Quarantine>,
    cursor: Option<Cursor>,
    next: Option<Cursor>,
}

impl OpenParked {
    pub(super) async fn open(
        snapshot: &dyn Snapshot,
        project: Project,
        id: &RunId,
        cursor: Option<Cursor>,
    ) -> Result<Self> {
        let quarantine = quarantine_get(snapshot, project, id).await?;
        let next = match quarantine.as_ref().filter(|quarantine| quarantine.is_ending) {
            None => cursor,
            // The cursor is among the parked records, and nothing is parked now.
            Some(quarantine) => {
                let last = last_position(snapshot, project, id).await?;
                let after_last = last.map(Cursor::after).unwrap_or_default();
                let next = match quarantine.restored {
                    Some(_) => quarantine.cursor,
                    None => cursor.unwrap_or_default(),
                };
                Some(if next.is_before(&after_last) { after_last } else { next })
            }
        };
        Ok(Self { quarantine, cursor, next })
    }

    pub(super) fn quarantine_view(&self) -> Option<pb::Quarantine> {
        self.quarantine.as_ref().map(|of| pb::Quarantine { reason: of.reason.clone(), since_us: of.since_us })
    }

    /// The cursor after everything that is in the archive, applied or parked.
    pub(super) fn next_cursor(&self) -> Option<Cursor> {
        self.next
    }

    /// The parked items, in the order in which they are to be applied.
    pub(super) fn ranges(project: Project, id: &RunId) -> [Range; 2] {
        [keys::parked_restored(project, id), keys::parked_logged(project, id)]
    }

    /// One page of the items that belong to the backup, and the range of the rest. Fails if records that
    /// were parked have been applied since.
    pub(super) async fn page(
        &self,
        snapshot: &dyn Snapshot,
        project: Project,
        id: &RunId,
        range: &Range,
    ) -> Result<(Vec<pb::ParkedItem>, Option<Range>)> {
        let (page, rest) = parked_list(snapshot, project, range, PAGE_ITEMS).await?;
        if let Some(before) = &self.quarantine {
            let now = quarantine_get(snapshot, project, id).await?;
            let is_unchanged =
                now.is_some_and(|now| (now.is_ending, now.since_us) == (before.is_ending, before.since_us));
            let has_moved = before.is_ending && cursor_get(snapshot, project, id).await? != self.cursor;
            if !is_unchanged || has_moved {
                return Err(Error::PositionExpired);
            }
        }
        Ok((page.into_iter().filter_map(|item| self.view(item)).collect(), rest))
    }

    /// An item without its number; `None` if it is applied, or newer than the backup.
    fn view(&self, parked: ParkedItem) -> Option<pb::ParkedItem> {
        let ParkedItem { at, reason, received_us, item: content, record, .. } = parked;
        let record = match record {
            Some(record) => {
                Some(record_view(ParkedRecord { first_item: self.first_item(&at, &record)?, ..record }))
            }
            None if self.is_newer(&at) => return None,
            None => None,
        };
        Some(pb::ParkedItem { number: 0, reason, received_us, content, record })
    }

    fn is_newer(&self, at: &ItemPosition) -> bool {
        let next = self.next.unwrap_or_default().next_item(position(at));
        at.log < RESTORED_LOG && next.is_some_and(|next| at.item >= next)
    }

    /// The first item of a parked record that is not applied.
    fn first_item(&self, at: &ItemPosition, record: &ParkedRecord) -> Option<u32> {
        let quarantine = self.quarantine.as_ref()?;
        let current = self.cursor.filter(|_| quarantine.is_ending);
        let from = match quarantine.restored {
            _ if at.log < RESTORED_LOG => {
                let current = current.filter(|_| quarantine.restored.is_none());
                current.unwrap_or(quarantine.cursor)
            }
            Some(restored)
                if (restored.position.log, restored.position.partition) == (at.log, at.partition) =>
            {
                current.unwrap_or(restored)
            }
            // It belongs to another restore.
            _ => return None,
        };
        if self.is_newer(at) {
            return None;
        }
        from.next_item(position(at)).map(|item| item.max(record.first_item))
    }
}

fn position(at: &ItemPosition) -> LogPosition {
    LogPosition { log: at.log, partition: at.partition, offset: at.offset }
}

/// The position of the last parked item of a run that comes from the log.
async fn last_position(snapshot: &dyn Snapshot, project: Project, id: &RunId) -> Result<Option<LogPosition>> {
    let scan = Scan { rows: 1, reverse: true, ..Scan::default() };
    let page = snapshot.scan(&keys::parked_logged(project, id), scan).await?;
    let prefix = keys::parked(project).start;
    let last = page.rows.first().map(|(key, _)| keys::decode_parked(&prefix, key)).transpose()?;
    Ok(last.map(|(_, at, _)| position(&at)))
}

fn record_view(record: ParkedRecord) -> pb::ParkedRecord {
    let ParkedRecord { caller, origin, is_envelope: envelope, first_item } = record;
    let origin = origin.map(|origin| pb::RecordOrigin {
        producer: origin.producer.0.to_vec().into(),
        sequence: origin.sequence,
        acknowledged: origin.acknowledged,
        ephemeral: origin.is_ephemeral,
        part: origin.part.map(|BatchPart { first, count, total }| pb::BatchPart { first, count, total }),
    });
    pb::ParkedRecord { caller, envelope, first_item, origin }
}

/// A parked item of an archive at its position in this store.
pub(super) fn parked_item(run_id: RunId, at: ItemPosition, item: pb::ParkedItem) -> Result<ParkedItem> {
    let pb::ParkedItem { reason, received_us, content, record, .. } = item;
    check_limit("parked.reason", reason.len(), limits::CHUNK_BYTES)?;
    check_limit("parked.content", content.len(), matyan_log::MAX_RECORD_BYTES)?;
    let record = record.map(record_of).transpose()?;
    Ok(ParkedItem { run_id, at, reason, received_us, item: content, record })
}

fn record_of(record: pb::ParkedRecord) -> Result<ParkedRecord> {
    let pb::ParkedRecord { caller, envelope: is_envelope, first_item, origin } = record;
    check_limit("parked.record.caller", caller.len(), limits::NAME_BYTES)?;
    let origin = origin.map(|origin| {
        let producer = origin.producer.as_ref().try_into().map(ProducerId);
        Ok::<_, Error>(BatchOrigin {
            producer: producer
                .map_err(|_| Error::field("parked.record.origin.producer", "does not have 16 bytes"))?,
            sequence: origin.sequence,
            part: origin.part.map(|pb::BatchPart { first, count, total }| BatchPart { first, count, total }),
            acknowledged: origin.acknowledged,
            is_ephemeral: origin.ephemeral,
        })
    });
    Ok(ParkedRecord { caller, origin: origin.transpose()?, is_envelope, first_item })
}
