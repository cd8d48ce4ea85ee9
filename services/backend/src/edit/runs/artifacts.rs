//! Deletion of artifacts. Only the references to blobs are deleted here: the job `orphaned-blobs` deletes blobs
//! that nothing refers to.

use matyan_model::{
    artifact::{artifacts_list, is_sequence_upload},
    keys,
};
use matyan_proto::{artifacts::v1::DeleteRequest, limits};
use matyan_store::{Transaction, transact};

use super::change::{load, write};
use crate::server::{
    call::Call,
    convert::check_limit,
    deps::Deps,
    error::{Error, Result},
};

/// Artifacts in one transaction.
const PER_TRANSACTION: usize = 1_000;

/// Deletes the artifacts with a path or in a folder of this path; returns their number.
pub(crate) async fn delete_artifacts(deps: &Deps, call: &Call, request: &DeleteRequest) -> Result<u32> {
    let DeleteRequest { run_id, path } = request;
    if path.is_empty() {
        return Err(Error::field("path", "is empty: name an artifact or a folder"));
    }
    check_limit("path", path.len(), limits::ARTIFACT_PATH_BYTES)?;
    let found = deps.find_run(call, run_id).await?;
    let number = found.number;
    let listed = artifacts_list(found.snapshot.as_ref(), call.project, number).await?;
    drop(found);
    let is_named = |other: &str| {
        other.strip_prefix(path.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let paths: Vec<String> = listed
        .into_iter()
        .map(|(path, _)| path)
        .filter(|path| is_named(path) && !is_sequence_upload(path))
        .collect();
    if paths.is_empty() {
        return Err(Error::not_found("artifact", path));
    }
    let now = (deps.clock)();
    for chunk in paths.chunks(PER_TRANSACTION) {
        transact(deps.store.as_ref(), async |mut transaction: Transaction| {
            let edit = load(&transaction, call, number, run_id).await?;
            for path in chunk {
                transaction.batch().clear(keys::artifact(call.project, number, path));
            }
            write(&mut transaction, call, edit, now);
            Ok::<_, Error>((transaction, ()))
        })
        .await?;
    }
    Ok(u32::try_from(paths.len()).unwrap_or(u32::MAX))
}
