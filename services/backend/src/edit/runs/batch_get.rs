//! Runs by their ids, in the order of the request. Each run is read from one snapshot.

use matyan_proto::runs::v1::{BatchGetResponse, RunParts};
use prost::Message;

use crate::{
    server::{
        call::Call,
        deps::Deps,
        error::Error,
        stream::{MESSAGE_BYTES, Sender, StreamEnd},
    },
    view::{EntityNames, in_pieces, run_view},
};

pub(super) async fn send(
    deps: &Deps,
    call: &Call,
    run_ids: Vec<String>,
    parts: &RunParts,
    sender: &Sender<BatchGetResponse>,
) -> Result<(), StreamEnd> {
    let mut names = EntityNames::new(call);
    let mut message = BatchGetResponse::default();
    let mut bytes = 0;
    let mut unknown = Vec::new();
    for run_id in run_ids {
        let found = match deps.try_find_run(call, &run_id).await {
            Ok(Some(found)) => found,
            Ok(None) => {
                unknown.push(run_id);
                continue;
            }
            Err(Error::DamagedRun { .. }) => {
                deps.metrics.count_left_out(1);
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let run = match run_view(deps, &mut names, &found, parts).await {
            Ok(run) => run,
            Err(error) => {
                deps.metrics.leave_out(&run_id, error)?;
                continue;
            }
        };
        drop(found);
        for piece in in_pieces(run) {
            bytes += piece.encoded_len();
            message.runs.push(piece);
            if bytes >= MESSAGE_BYTES {
                bytes = 0;
                sender.send(std::mem::take(&mut message)).await?;
            }
        }
    }
    message.unknown = unknown;
    message.done = true;
    sender.send(message).await
}
