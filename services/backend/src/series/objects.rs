//! Objects of every type: steps of a sequence, and the content of a step.

mod cursor;
mod item;
mod sequence_lookup;

pub(crate) use {
    cursor::ObjectCursor,
    item::value,
    sequence_lookup::{SelectedSequence, is_list},
};

use matyan_proto::{
    limits,
    objects::v1::{self as pb, object_service_server::ObjectService},
};
use tonic::{Request, Response};

use crate::server::{RpcResult, Server, convert, stream::ResponseStream};

/// The service of objects.
pub(crate) struct ObjectApi {
    server: Server,
}

impl ObjectApi {
    pub(crate) fn new(server: Server) -> Self {
        Self { server }
    }
}

#[tonic::async_trait]
impl ObjectService for ObjectApi {
    type BatchStream = ResponseStream<pb::BatchResponse>;
    type StepStream = ResponseStream<pb::StepResponse>;

    async fn batch(&self, request: Request<pb::BatchRequest>) -> RpcResult<Self::BatchStream> {
        let (call, request) = self.server.start_call(request).await?;
        convert::check_limit("sequences", request.sequences.len(), limits::SERIES_PER_CALL)?;
        let run = self.server.deps.find_run(&call, &request.run_id).await?.number;
        let deps = self.server.deps.clone();
        let sequences =
            sequence_lookup::select(&deps, &call, run, request.r#type(), &request.sequences).await?;
        let selection = request.selection.unwrap_or_default();
        Ok(Response::new(self.server.respond(async move |sender| {
            for sequence in sequences {
                let mut cursor = ObjectCursor::new(&deps, &call, sequence, &selection).await?;
                loop {
                    let snapshot = deps.store.snapshot().await?;
                    let sequence = cursor.piece(&deps, snapshot.as_ref()).await?;
                    drop(snapshot);
                    let last = !sequence.more;
                    let sequence = Some(pb::Sequence { more: false, ..sequence });
                    sender.send(pb::BatchResponse { sequence, last }).await?;
                    if last {
                        break;
                    }
                }
            }
            Ok(())
        })))
    }

    async fn step(&self, request: Request<pb::StepRequest>) -> RpcResult<Self::StepStream> {
        let (call, request) = self.server.start_call(request).await?;
        convert::check_limit("sequences", request.sequences.len(), limits::SERIES_PER_CALL)?;
        let run = self.server.deps.find_run(&call, &request.run_id).await?.number;
        let deps = self.server.deps.clone();
        let sequences =
            sequence_lookup::select(&deps, &call, run, request.r#type(), &request.sequences).await?;
        let selection = pb::Selection {
            index_range: request.index_range,
            index_density: request.index_density,
            ..pb::Selection::default()
        };
        Ok(Response::new(self.server.respond(async move |sender| {
            for sequence in sequences {
                let step = request.step.unwrap_or(sequence.header.last_step);
                let mut cursor = ObjectCursor::for_step(&call, sequence, step, &selection);
                let snapshot = deps.store.snapshot().await?;
                let sequence = cursor.piece(&deps, snapshot.as_ref()).await?;
                drop(snapshot);
                if !sequence.steps.is_empty() {
                    sender.send(pb::StepResponse { sequence: Some(sequence) }).await?;
                }
            }
            Ok(())
        })))
    }
}
