//! Deletion of a run's params by path.

use matyan_model::keys;
use matyan_proto::{limits, runs::v1::DeleteParamsRequest};
use matyan_store::{Scan, Transaction, transact};
use matyan_value::{Map, Value};

use super::change::{load, write};
use crate::server::{
    audit::audit_no_effect,
    call::Call,
    convert,
    deps::Deps,
    error::{Error, Result},
};

/// Maximum number of paths in one call.
const MAX_PATHS: usize = 1_000;

/// The key that belongs to the system and is kept when all params are deleted.
const SYSTEM_KEY: &str = "__blobs__";

pub(super) async fn delete(deps: &Deps, call: &Call, request: &DeleteParamsRequest) -> Result<()> {
    convert::check_limit("paths", request.paths.len(), MAX_PATHS)?;
    for path in &request.paths {
        convert::check_limit("segments", path.segments.len(), limits::VALUE_DEPTH)?;
    }
    let number = deps.find_run(call, &request.run_id).await?.number;
    let now = (deps.clock)();
    let (removed, _) = transact(deps.store.as_ref(), async |mut transaction: Transaction| {
        let mut edit = load(&transaction, call, number, &request.run_id).await?;
        // Large params are in separate rows, which may change without the document.
        transaction.scan(&keys::params(call.project, number), Scan::default()).await?;
        let tree = edit.params(transaction.unchecked()).await?;
        let removed = request.paths.iter().filter(|path| remove(tree, &path.segments)).count();
        if removed > 0 {
            write(&mut transaction, call, edit, now);
        }
        Ok::<_, Error>((transaction, removed))
    })
    .await?;
    if removed == 0 {
        audit_no_effect();
    }
    Ok(())
}

/// Removes the value at a path, or all values for an empty path; returns whether anything was
/// removed.
fn remove(tree: &mut Map, path: &[String]) -> bool {
    let Some((last, parents)) = path.split_last() else {
        let before = tree.len();
        tree.retain(|key, _| key == SYSTEM_KEY);
        return tree.len() < before;
    };
    let mut node = tree;
    for key in parents {
        match node.get_mut(key) {
            Some(Value::Map(map)) => node = map,
            _ => return false,
        }
    }
    node.remove(last).is_some()
}

#[cfg(test)]
mod tests {
    use matyan_value::json;

    use super::*;

    #[test]
    fn values_are_removed_by_path() {
        let map = |text: &str| match json::parse(text).unwrap() {
            Value::Map(map) => map,
            other => panic!("{other:?}"),
        };
        let check = |before: &str, path: &[&str], after: &str, removed: bool| {
            let mut tree = map(before);
            let path: Vec<String> = path.iter().map(|key| (*key).to_owned()).collect();
            assert_eq!(remove(&mut tree, &path), removed, "{before} {path:?}");
            assert_eq!(tree, map(after), "{before} {path:?}");
        };
        check(r#"{"a":{"b":1,"c":2}}"#, &["a", "b"], r#"{"a":{"c":2}}"#, true);
        check(r#"{"a":{"b":1}}"#, &["a", "b"], r#"{"a":{}}"#, true);
        check(r#"{"a":{"b":1}}"#, &["a"], "{}", true);
        check(r#"{"a":{"b":1}}"#, &["a", "x"], r#"{"a":{"b":1}}"#, false);
        check(r#"{"a":{"b":1}}"#, &["a", "b", "c"], r#"{"a":{"b":1}}"#, false);
        check(r#"{"a.b":1}"#, &["a.b"], "{}", true);
        check(r#"{"a":1,"__blobs__":{"x":2}}"#, &[], r#"{"__blobs__":{"x":2}}"#, true);
        check(r#"{"__blobs__":1}"#, &[], r#"{"__blobs__":1}"#, false);
    }
}
