//! Reads the roster of a project from indexes.

use matyan_model::{
    ids::{Project, RunNumber},
    index::index_runs_page,
    keys,
    run::run_ids_list,
};
use matyan_store::Stamp;

use super::{
    eviction::Room,
    roster::{PAGE, Roster, RunState, id_bytes},
};
use crate::server::{deps::Deps, error::Result};

/// Reads the roster from indexes, as of `position` or later. A run that changes during the
/// read is read again later.
pub(super) async fn read(
    deps: &Deps,
    project: Project,
    position: Stamp,
    room: &mut Room<'_>,
) -> Result<Roster> {
    let mut roster = Roster::new(position);
    // Vectors of pages: one for all would be copied while it grows.
    let mut listed = [Vec::new(), Vec::new()];
    let mut runs = 0;
    for (archived, listed) in [false, true].into_iter().zip(&mut listed) {
        let mut rest = Some(keys::index_archived_all(project, archived));
        while let Some(range) = rest {
            let snapshot = deps.store.snapshot().await?;
            let (numbers, next) = index_runs_page(snapshot.as_ref(), &range, PAGE.rows).await?;
            runs += numbers.len();
            room.reserve(runs * size_of::<RunNumber>()).await?;
            listed.push(numbers);
            rest = next;
        }
    }
    let listed_bytes = runs * size_of::<RunNumber>();
    let states = listed.into_iter().zip([RunState::Shown, RunState::Archived]);
    let mut states: Vec<_> =
        states.map(|(listed, state)| (listed.into_iter().flatten().peekable(), state)).collect();
    let mut rest = Some(keys::numbers(project));
    while let Some(range) = rest {
        let snapshot = deps.store.snapshot().await?;
        let page = run_ids_list(snapshot.as_ref(), project, &range, PAGE).await?;
        let id_bytes: usize = page.runs.iter().map(|(_, run_id)| id_bytes(run_id.as_str())).sum();
        // The ids of later pages are about as long.
        let id_bytes = id_bytes.div_ceil(page.runs.len().max(1));
        let more = runs.saturating_sub(roster.len()).max(page.runs.len());
        room.reserve(listed_bytes + roster.bytes() + roster.ascending_growth(more, id_bytes)).await?;
        roster.grow(more, id_bytes);
        for (number, run_id) in page.runs {
            // A run that was archived between two pages may be in both.
            let mut found = None;
            for (listed, state) in &mut states {
                while let Some(other) = listed.next_if(|other| *other <= number) {
                    if other == number {
                        found = Some(*state);
                    }
                }
            }
            if let Some(state) = found {
                roster.push(number, run_id.as_str(), state);
            }
        }
        rest = page.rest;
    }
    Ok(roster)
}
