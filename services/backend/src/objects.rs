//! Objects of every kind: steps of a sequence, and what a step holds.

mod item;
mod read;

pub(crate) use item::value;
pub(crate) use read::{Selected, found_sequence, is_list};

use matyan_model::series::StepRange;
use matyan_proto::{
    limits,
    objects::v1::{self as pb, object_service_server::ObjectService},
};
use tonic::{Request, Response, Status};

use crate::{Backend, call::Call, convert, stream::Answers};

#[tonic::async_trait]
impl ObjectService for Backend {
    type BatchStream = Answers<pb::BatchResponse>;
    type StepStream = Answers<pb::StepResponse>;

    async fn batch(&self, request: Request<pb::BatchRequest>) -> Result<Response<Self::BatchStream>, Status> {
        let call = Call::begin(&self.context, request.metadata()).await?;
        let request = request.into_inner();
        convert::at_most("sequences", request.sequences.len(), limits::SERIES_PER_CALL)?;
        let found = self.context.run(&call, &request.run_id).await?;
        let sequences = read::select(&call, &found, request.r#type(), &request.sequences).await?;
        drop(found);
        let context = self.context.clone();
        let selection = request.selection.unwrap_or_default();
        Ok(Response::new(self.answers(async move |sender| {
            for sequence in sequences {
                read::send_batch(&context, &call, &sequence, &selection, &sender).await?;
            }
            Ok(())
        })))
    }

    async fn step(&self, request: Request<pb::StepRequest>) -> Result<Response<Self::StepStream>, Status> {
        let call = Call::begin(&self.context, request.metadata()).await?;
        let request = request.into_inner();
        convert::at_most("sequences", request.sequences.len(), limits::SERIES_PER_CALL)?;
        let found = self.context.run(&call, &request.run_id).await?;
        let sequences = read::select(&call, &found, request.r#type(), &request.sequences).await?;
        drop(found);
        let context = self.context.clone();
        let selection = pb::Selection {
            index_range: request.index_range,
            index_density: request.index_density,
            ..pb::Selection::default()
        };
        Ok(Response::new(self.answers(async move |sender| {
            for sequence in sequences {
                let step = request.step.unwrap_or(sequence.header.last_step);
                let steps = StepRange::new(step, step);
                if let Some(sequence) = read::one_step(&context, &call, &sequence, steps, &selection).await? {
                    sender.send(pb::StepResponse { sequence: Some(sequence) }).await?;
                }
            }
            Ok(())
        })))
    }
}
