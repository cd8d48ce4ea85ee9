//! Lists of the artifacts of runs.

use matyan_proto::artifacts::v1::{Artifact, ListRequest, ListResponse};
use tonic::{Status, Streaming};

use crate::Channels;
use crate::status::is_missing;

/// A list of artifacts of a run, in the order of their paths, which is read piece by piece. Dropping it ends the call.
pub struct ArtifactPieces {
    /// `None` if the run does not exist. Then it has no artifacts.
    messages: Option<Streaming<ListResponse>>,
    after: String,
}

impl ArtifactPieces {
    pub async fn open(channels: &Channels, request: ListRequest) -> Result<Self, Status> {
        let after = request.after.clone();
        let messages = match channels.artifacts().list(request).await {
            Ok(response) => Some(response.into_inner()),
            Err(status) if is_missing(&status) => None,
            Err(status) => return Err(status),
        };
        Ok(Self { messages, after })
    }

    /// The next artifacts; `None` at the end of the list.
    ///
    /// Fails if an artifact does not come after `after` of the request: a caller that reads page after page would never
    /// come to the end.
    pub async fn next(&mut self) -> Result<Option<Vec<Artifact>>, Status> {
        let Some(messages) = &mut self.messages else { return Ok(None) };
        let Some(message) = messages.message().await? else { return Ok(None) };
        if message.artifacts.iter().any(|artifact| artifact.path <= self.after) {
            return Err(Status::internal(
                "the backend ignores `after` in lists of artifacts: upgrade it first",
            ));
        }
        Ok(Some(message.artifacts))
    }
}

/// Lists artifacts of a run, in the order of their paths. A run that does not exist has no artifacts.
pub async fn list_artifacts(channels: &Channels, request: ListRequest) -> Result<Vec<Artifact>, Status> {
    let mut pieces = ArtifactPieces::open(channels, request).await?;
    let mut found = Vec::new();
    while let Some(piece) = pieces.next().await? {
        found.extend(piece);
    }
    Ok(found)
}
