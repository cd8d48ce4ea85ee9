//! Publishes a single batch, as a stream of one.

use std::sync::Arc;

use matyan_proto::ingest::v1 as pb;

use crate::{
    Shared,
    compose::{Arrival, Composer},
    convert::{Caller, Publish},
    error::Result,
    pipeline::Pipeline,
    record::Author,
    stream::position,
};

pub(crate) async fn publish(
    shared: &Arc<Shared>,
    caller: Caller,
    request: Publish,
) -> Result<pb::PublishResponse> {
    let Publish { run, producer, sequence, batch } = request;
    let arrival = Arrival::new(shared, sequence, caller.trace.clone(), batch);
    let share = shared.share(arrival.bytes()).await;
    let author = Author { run, producer, caller };
    let mut pipeline = Pipeline::new(shared.clone(), &author.caller.project, author.run.as_str());
    // Calls of one producer are sequential: each follows the answer to the previous one.
    let (_, frame) =
        Composer::new(shared.settings.format, author, Vec::new()).frame(shared, arrival, sequence - 1).await;
    pipeline.push(frame?, share);
    let appended = pipeline.next().await?;
    let (rejections, rejected_items) = appended.rejections.into_parts();
    Ok(pb::PublishResponse {
        position: Some(position(shared, appended.position)),
        rejections,
        rejected_items,
    })
}
