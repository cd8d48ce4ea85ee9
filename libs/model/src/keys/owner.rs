//! The run that a row belongs to.

use foundationdb_tuple::{Element, unpack};
use matyan_store::Key;

use super::Space;
use crate::ids::{RunId, RunNumber};

/// The run whose data a row holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowOwner {
    RunId(RunId),
    Number(RunNumber),
    /// No run in particular: entities, counters, indexes, and system rows.
    Shared,
}

/// The owner of the row with this key.
pub fn row_owner(key: &Key) -> RowOwner {
    let Ok(elements) = unpack::<Vec<Element<'_>>>(key) else { return RowOwner::Shared };
    let [Element::Int(_), Element::Int(space), owner, ..] = elements.as_slice() else {
        return RowOwner::Shared;
    };
    match owner {
        Element::String(id) if is_in(*space, &SPACES_OF_RUN_IDS) => RowOwner::RunId(RunId::new(id.as_ref())),
        Element::Int(number) if is_in(*space, &SPACES_OF_NUMBERS) => {
            RowOwner::Number(RunNumber(number.cast_unsigned()))
        }
        _ => RowOwner::Shared,
    }
}

const SPACES_OF_RUN_IDS: [Space; 4] = [Space::RunId, Space::Parked, Space::Quarantine, Space::Tombstone];
const SPACES_OF_NUMBERS: [Space; 5] =
    [Space::Document, Space::Run, Space::Number, Space::Unfolded, Space::Branch];

fn is_in(space: i64, spaces: &[Space]) -> bool {
    spaces.iter().any(|candidate| *candidate as i64 == space)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ids::{ProducerId, Project, SeriesNumber},
        keys::{self, Counter, EntityKind},
    };

    #[test]
    fn rows_of_runs_are_distinguished_from_shared_rows() {
        let project = Project(3);
        let id = RunId::new("r");
        let number = RunNumber(u64::from(u32::MAX) << 8);
        for key in [
            keys::head(project, &id),
            keys::cursor(project, &id),
            keys::mark(project, &id, ProducerId([9; 16])),
            keys::quarantine(project, &id),
        ] {
            assert_eq!(row_owner(&key), RowOwner::RunId(id.clone()));
        }
        for key in [
            keys::document(project, number),
            keys::writing(project, number),
            keys::number(project, number),
            keys::branch(project, number),
            keys::params_piece(project, number, 2),
            keys::block(project, number, 2),
            keys::chunk(project, number, SeriesNumber(2), 3),
            keys::series_summary(project, number, SeriesNumber(2)),
        ] {
            assert_eq!(row_owner(&key), RowOwner::Number(number));
        }
        for key in [
            keys::entity_counter(project, EntityKind::Tag, "t", Counter::Runs),
            keys::project_counter(project, Counter::Points),
            keys::log(keys::LogTopic::Control),
            Key::from_static(b"\xff"),
        ] {
            assert_eq!(row_owner(&key), RowOwner::Shared);
        }
    }
}
