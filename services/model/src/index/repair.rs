//! Mending indexes: what should stand in them follows from the documents, so that it can be made anew at any time.

use std::collections::HashMap;

use matyan_store::{Key, Range, Result, Scan, Transaction};

use super::{EMPTY, params_rows, props_rows};
use crate::{
    entity,
    ids::{Project, RunNumber},
    keys::{self, Counter, EntityKind, SeriesKind},
    rows,
    run::RunEdit,
};

/// Adds the index rows of a run that are missing or tell something else, and returns how many there were.
pub async fn index_repair(
    transaction: &mut Transaction,
    project: Project,
    number: RunNumber,
) -> Result<usize> {
    let Some(mut edit) = RunEdit::load(transaction, project, number).await? else { return Ok(0) };
    let tree = edit.params(transaction.unchecked()).await?.clone();
    let mut wanted = props_rows(project, number, &edit.props);
    wanted.extend(params_rows(project, number, &tree));
    for kind in [SeriesKind::Metric, SeriesKind::Object] {
        let range = keys::series_names(project, number, kind);
        for (key, _) in rows::scan_all(transaction.unchecked(), &range).await? {
            let name = keys::series_name_of(&range, &key)?;
            wanted.insert(keys::index_series_name(project, kind, &name, number), EMPTY);
        }
    }
    let (keys, values): (Vec<Key>, Vec<&[u8]>) = wanted.into_iter().unzip();
    let found = transaction.unchecked().get_many(&keys).await?;
    let mut mended = 0;
    for ((key, value), found) in keys.into_iter().zip(values).zip(found) {
        if found.as_deref() != Some(value) {
            transaction.batch().set(key, value);
            mended += 1;
        }
    }
    Ok(mended)
}

/// The rows of a page of indexes whose runs are gone, and the range of those behind the page.
pub async fn rows_of_gone(
    transaction: &Transaction,
    project: Project,
    range: &Range,
    count: usize,
) -> Result<(Vec<Key>, Option<Range>)> {
    let page = transaction.unchecked().scan(range, Scan { rows: count, ..Scan::default() }).await?;
    let mut is_there: HashMap<RunNumber, bool> = HashMap::new();
    let mut gone = Vec::new();
    for (key, _) in &page.rows {
        let number = keys::index_run(key)?;
        let found = match is_there.get(&number) {
            Some(found) => *found,
            // Numbers are never used again: a run that is gone stays so.
            None => transaction.unchecked().get(&keys::document(project, number)).await?.is_some(),
        };
        is_there.insert(number, found);
        if !found {
            gone.push(key.clone());
        }
    }
    let rest = page.rows.last().filter(|_| page.more).map(|(key, _)| range.after(key));
    Ok((gone, rest))
}

/// Sets the number of runs of a tag or an experiment to what the index says; false if it was so.
pub async fn link_count(
    transaction: &mut Transaction,
    project: Project,
    kind: EntityKind,
    id: &str,
) -> Result<bool> {
    let range = match kind {
        EntityKind::Tag => keys::index_tag_all(project, id),
        _ => keys::index_experiment_all(project, id),
    };
    let (mut linked, mut rest) = (0_i64, range);
    loop {
        let page = transaction.scan(&rest, Scan::default()).await?;
        linked += page.rows.len() as i64;
        match page.rows.last() {
            Some((last, _)) if page.more => rest = rest.after(last),
            _ => break,
        }
    }
    let key = keys::entity_counter(project, kind, id, Counter::Runs);
    let counted = transaction.unchecked().get(&key).await?;
    let counted = counted.map(|value| entity::count(&key, &value)).transpose()?.unwrap_or_default();
    if counted != linked {
        // Whoever links a run adds to the counter and changes the range, which is checked.
        transaction.batch().add(key, linked - counted);
    }
    Ok(counted != linked)
}
