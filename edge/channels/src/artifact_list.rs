//! Lists of the artifacts of runs.

use matyan_proto::artifacts::v1::{Artifact, ListRequest};
use tonic::Status;

use crate::Channels;
use crate::status::is_missing;

/// Lists artifacts of a run, in the order of their paths. A run that does not exist has no artifacts.
///
/// Fails if an artifact does not come after `request.after`: a caller that reads page after page would never come to the
/// end.
pub async fn list_artifacts(channels: &Channels, request: ListRequest) -> Result<Vec<Artifact>, Status> {
    let after = request.after.clone();
    let mut messages = match channels.artifacts().list(request).await {
        Ok(response) => response.into_inner(),
        Err(status) if is_missing(&status) => return Ok(Vec::new()),
        Err(status) => return Err(status),
    };
    let mut found = Vec::new();
    while let Some(message) = messages.message().await? {
        if message.artifacts.iter().any(|artifact| artifact.path <= after) {
            return Err(Status::internal(
                "the backend ignores `after` in lists of artifacts: upgrade it first",
            ));
        }
        found.extend(message.artifacts);
    }
    Ok(found)
}
