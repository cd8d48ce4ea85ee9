//! The content of a run, message by message. Each message is a transaction that advances the
//! position; messages up to the position are already stored. Blocks of points are folded as
//! they accumulate, so that a run of any length ends up in chunks.

use matyan_model::series::{FoldStatus, RunRef, fold_run};
use matyan_proto::{
    backup::v1::{self as pb, piece::Content},
    limits,
};
use prost::Message;
use tonic::Streaming;

use super::{
    stage::{self, OpenRestore},
    writer::RunWriter,
};
use crate::server::{
    call::Call,
    convert::check_limit,
    deps::Deps,
    error::{Error, Result},
};

/// Limits on blocks before they are folded: the most that a reader of a live run may encounter.
const UNFOLDED_BYTES: usize = 8 << 20;
const UNFOLDED_BLOCKS: usize = 256;
/// Maximum number of pieces in a message: each writes some rows, however small it is.
const MAX_PIECES: usize = 4_096;

pub(super) async fn write(
    deps: &Deps,
    call: &Call,
    mut requests: Streaming<pb::WriteRunRequest>,
) -> Result<u64> {
    let mut next = receive(&mut requests).await?;
    let Some(first) = &next else {
        return Err(Error::field("run_id", "is missing: send at least one message"));
    };
    let open = stage::open(deps, call, &first.run_id, &first.source).await?;
    let mut writer = RunWriter::load(deps, call, open).await?;
    while let Some(request) = next {
        check_size(&request)?;
        if request.position > writer.position() {
            Box::pin(writer.write(request.pieces, request.position)).await?;
        }
        if writer.unfolded_bytes >= UNFOLDED_BYTES || writer.unfolded_blocks >= UNFOLDED_BLOCKS {
            fold(deps, call, writer.open(), false).await?;
            writer.reset_unfolded();
        }
        next = receive(&mut requests).await?;
    }
    Ok(writer.position())
}

/// The next request. A disconnect keeps everything written before.
async fn receive(requests: &mut Streaming<pb::WriteRunRequest>) -> Result<Option<pb::WriteRunRequest>> {
    requests
        .message()
        .await
        .map_err(|status| Error::InvalidRequest(format!("failed to receive content: {}", status.message())))
}

/// A single object, line, record, or parked item may be large; all other messages are limited to a reasonable
/// transaction size.
fn check_size(request: &pb::WriteRunRequest) -> Result<()> {
    check_limit("pieces", request.pieces.len(), MAX_PIECES)?;
    let is_one = match request.pieces.as_slice() {
        [piece] => match piece.content {
            Some(Content::Object(_) | Content::Line(_) | Content::Record(_) | Content::Parked(_)) => true,
            Some(
                Content::Points(_) | Content::Artifact(_) | Content::Producer(_) | Content::Dictionary(_),
            )
            | None => false,
        },
        _ => false,
    };
    if is_one { Ok(()) } else { check_limit("pieces", request.encoded_len(), limits::CHUNK_BYTES) }
}

/// Folds the blocks on a blocking thread, because this is CPU-bound.
pub(super) async fn fold(deps: &Deps, call: &Call, open: &OpenRestore, is_ended: bool) -> Result<()> {
    let place = RunRef { project: call.project, number: open.staged.number };
    let live = open.staged.live(call.project, &open.id);
    let store = deps.store.clone();
    let clock = deps.clock.clone();
    let runtime = tokio::runtime::Handle::current();
    let folding = tokio::task::spawn_blocking(move || {
        let now = || clock();
        runtime.block_on(Box::pin(fold_run(store.as_ref(), place, &live, is_ended, &now)))
    });
    match folding.await.map_err(|_| Error::Broken)?? {
        FoldStatus::Done => Ok(()),
        FoldStatus::InProgress | FoldStatus::RunDead | FoldStatus::Superseded => Err(stage::not_started()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_pieces_in_a_message_is_limited() {
        let check = |pieces: usize| {
            let pieces = vec![pb::Piece::default(); pieces];
            check_size(&pb::WriteRunRequest { pieces, ..Default::default() }).is_ok()
        };
        assert!(check(MAX_PIECES));
        assert!(!check(MAX_PIECES + 1));
    }
}
