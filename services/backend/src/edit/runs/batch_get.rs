//! Runs by their ids, in the order of the request. Each run is read from one snapshot.

use std::collections::VecDeque;

use matyan_proto::runs::v1::{BatchGetResponse, RunParts};
use prost::Message;

use crate::{
    server::{
        Server,
        call::Call,
        error::Error,
        large_runs::LargeRunRoom,
        stream::{MESSAGE_BYTES, Sender, StreamEnd},
    },
    view::{EntityNames, WantedSeries, in_pieces, run_view},
};

pub(super) async fn send(
    server: &Server,
    call: &Call,
    run_ids: Vec<String>,
    parts: &RunParts,
    sender: &Sender<BatchGetResponse>,
    room: &mut LargeRunRoom,
) -> Result<(), StreamEnd> {
    let mut names = EntityNames::new(call);
    let types: Vec<_> = parts.series_types().collect();
    let wanted = WantedSeries::of(parts);
    let mut message = BatchGetResponse::default();
    let mut bytes = 0;
    let mut unknown = Vec::new();
    let mut run_ids = VecDeque::from(run_ids);
    while let Some(run_id) = run_ids.pop_front() {
        let (found, turn) = match server.find_run_with_series(call, &run_id, &types, wanted).await {
            Ok(found) => found,
            Err(Error::NotFound { .. }) => {
                unknown.push(run_id);
                continue;
            }
            Err(Error::DamagedRun { .. }) => {
                server.deps.metrics.count_left_out(1);
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let run = match run_view(&server.deps, &mut names, &found, parts).await {
            Ok(run) => run,
            Err(error) => {
                server.deps.metrics.leave_out(&run_id, error)?;
                continue;
            }
        };
        drop(found);
        if !room.is_enough_for(&run) {
            drop(run);
            drop(turn);
            if bytes > 0 {
                bytes = 0;
                sender.send(std::mem::take(&mut message)).await?;
            }
            room.take().await?;
            // Reads the run again, because it may have changed.
            run_ids.push_front(run_id);
            continue;
        }
        // A run with many series has room of its own.
        drop(turn);
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
