//! Publishes a single batch as a stream of one batch.

use std::sync::Arc;

use matyan_proto::ingest::v1 as pb;

use crate::{
    compose::{Composer, ReceivedBatch},
    convert::{Caller, PublishCommand},
    error::Result,
    ingestion::Ingestion,
    pipeline::Pipeline,
    record::Author,
};

pub(crate) async fn publish(
    ingestion: &Arc<Ingestion>,
    caller: Caller,
    request: PublishCommand,
) -> Result<pb::PublishResponse> {
    let PublishCommand { run, producer, sequence, batch, all_or_nothing } = request;
    let mut received = ReceivedBatch::new(ingestion, sequence, caller.trace.clone(), batch);
    received.all_or_nothing = all_or_nothing;
    let share = ingestion.budget.share(received.bytes()).await;
    let author = Author { run, producer, caller };
    let mut pipeline = Pipeline::new(ingestion.clone(), &author.caller.project, author.run.as_str());
    // Calls of one producer are sequential: each starts after the response to the previous
    // one.
    let composer = Composer::new(ingestion, author, Vec::new())?;
    let (_, composed) = composer.compose_batch(ingestion, received, sequence - 1).await;
    let composed = composed?;
    if all_or_nothing && composed.rejections.total() > 0 {
        let (rejections, rejected_items) = composed.rejections.into_parts();
        return Ok(pb::PublishResponse { position: None, rejections, rejected_items });
    }
    pipeline.push(composed, share);
    let appended = pipeline.next().await?;
    let (rejections, rejected_items) = appended.rejections.into_parts();
    Ok(pb::PublishResponse {
        position: Some(ingestion.log_position(appended.position)),
        rejections,
        rejected_items,
    })
}
