//! Publishes a single batch, as a stream of one.

use std::sync::Arc;

use matyan_proto::ingest::v1 as pb;

use crate::{
    Shared,
    compose::{Composer, ReceivedBatch},
    convert::{Caller, PublishCommand},
    error::Result,
    pipeline::Pipeline,
    record::Author,
    stream::log_position,
};

pub(crate) async fn publish(
    shared: &Arc<Shared>,
    caller: Caller,
    request: PublishCommand,
) -> Result<pb::PublishResponse> {
    let PublishCommand { run, producer, sequence, batch } = request;
    let received = ReceivedBatch::new(shared, sequence, caller.trace.clone(), batch);
    let share = shared.share(received.bytes()).await;
    let author = Author { run, producer, caller };
    let mut pipeline = Pipeline::new(shared.clone(), &author.caller.project, author.run.as_str());
    // Calls of one producer are sequential: each starts after the response to the previous
    // one.
    let (_, composed) = Composer::new(shared.settings.format, author, Vec::new())
        .compose_batch(shared, received, sequence - 1)
        .await;
    pipeline.push(composed?, share);
    let appended = pipeline.next().await?;
    let (rejections, rejected_items) = appended.rejections.into_parts();
    Ok(pb::PublishResponse {
        position: Some(log_position(shared, appended.position)),
        rejections,
        rejected_items,
    })
}
