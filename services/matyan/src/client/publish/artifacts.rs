//! The artifacts of a copy.

use std::{fs::File, io::Write as _};

use matyan_proto::{
    artifacts::v1::{
        Artifact, GetRequest, ListRequest, artifact_service_client::ArtifactServiceClient,
        get_response::Message,
    },
    published::v1::PublishedRun,
};

use super::{Error, RunCopy, client, file_error, run_error};

/// Writes all artifacts.
pub(super) async fn write(copy: &mut RunCopy<'_>, published: &mut PublishedRun) -> Result<(), Error> {
    let request = ListRequest { run_id: copy.run_id.to_owned() };
    let answer = client!(ArtifactServiceClient, copy.channel.clone()).list(request).await;
    let mut messages = answer.map_err(run_error(copy.run_id))?.into_inner();
    while let Some(message) = messages.message().await? {
        published.artifacts.extend(message.artifacts);
    }
    for (index, artifact) in published.artifacts.iter_mut().enumerate() {
        // Its own name might be a path out of the folder, or of a page that browsers run.
        let name = format!("artifacts/{index}.bin");
        write_content(copy, &name, artifact).await?;
        artifact.uri = name;
    }
    Ok(())
}

async fn write_content(copy: &mut RunCopy<'_>, name: &str, artifact: &Artifact) -> Result<(), Error> {
    let path = copy.path(name);
    let mut file = File::create_new(&path).map_err(file_error(&path))?;
    let request =
        GetRequest { run_id: copy.run_id.to_owned(), path: artifact.path.clone(), ..GetRequest::default() };
    let mut messages = client!(ArtifactServiceClient, copy.channel.clone()).get(request).await?.into_inner();
    let mut bytes = 0;
    while let Some(message) = messages.message().await? {
        if let Some(Message::Chunk(chunk)) = message.message {
            bytes += chunk.len() as u64;
            file.write_all(&chunk).map_err(file_error(&path))?;
        }
    }
    file.sync_all().map_err(file_error(&path))?;
    copy.file_done(bytes);
    Ok(())
}
