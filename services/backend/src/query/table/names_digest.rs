//! A digest of names that values of runs depend on: they change without a change of the runs.

use matyan_model::{
    ids::Project,
    keys::{self, EntityKind},
};

use super::roster::PAGE;
use crate::server::{deps::Deps, error::Result};

/// A digest of the names of all experiments, or of all tags as well.
pub(super) async fn names_digest(deps: &Deps, project: Project, with_tags: bool) -> Result<u64> {
    let mut hasher = blake3::Hasher::new();
    for kind in [EntityKind::Experiment, EntityKind::Tag].into_iter().take(1 + usize::from(with_tags)) {
        let mut rest = Some(keys::entity_names(project, kind));
        while let Some(range) = rest {
            let page = deps.store.snapshot().await?.scan(&range, PAGE).await?;
            for (key, value) in &page.rows {
                for part in [key, value] {
                    hasher.update(&(part.len() as u64).to_le_bytes());
                    hasher.update(part);
                }
            }
            rest = page.rows.last().filter(|_| page.more).map(|(last, _)| range.after(last));
        }
    }
    let hash = hasher.finalize();
    Ok(u64::from_le_bytes(*hash.as_bytes().first_chunk().expect("a hash has 32 bytes")))
}
