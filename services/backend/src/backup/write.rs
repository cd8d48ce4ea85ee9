//! The content of a run, message by message. Each message is a transaction that advances the
//! position; messages up to the position are already stored. Blocks of points are folded as
//! they accumulate, so that a run of any length ends up in chunks.

use matyan_model::series::{Folding, RunPlace, fold_run};
use matyan_proto::{
    backup::v1::{self as pb, piece::Content},
    limits,
};
use prost::Message;
use tonic::Streaming;

use super::{
    stage::{self, Open},
    writer::Writer,
};
use crate::{
    Context,
    call::Call,
    convert::at_most,
    error::{Error, Result},
};

/// Limits on blocks before they are folded: the most that a reader of a live run may encounter.
const UNFOLDED_BYTES: usize = 8 << 20;
const UNFOLDED_BLOCKS: usize = 256;
/// Maximum number of pieces in a message: each writes some rows, however small it is.
const PIECES: usize = 4_096;

pub(super) async fn write(
    context: &Context,
    call: &Call,
    mut requests: Streaming<pb::WriteRunRequest>,
) -> Result<u64> {
    let mut next = receive(&mut requests).await?;
    let Some(first) = &next else { return Err(Error::field("run_id", "is missing: send at least one message")) };
    let open = stage::open(context, call, &first.run_id, &first.source).await?;
    let mut writer = Writer::load(context, call, open).await?;
    while let Some(request) = next {
        check_size(&request)?;
        if request.position > writer.position() {
            Box::pin(writer.write(request.pieces, request.position)).await?;
        }
        if writer.unfolded_bytes >= UNFOLDED_BYTES || writer.unfolded_blocks >= UNFOLDED_BLOCKS {
            fold(context, call, writer.open(), false).await?;
            writer.folded();
        }
        next = receive(&mut requests).await?;
    }
    Ok(writer.position())
}

/// The next request. A disconnect keeps everything written before.
async fn receive(requests: &mut Streaming<pb::WriteRunRequest>) -> Result<Option<pb::WriteRunRequest>> {
    let left =
        |status: tonic::Status| Error::InvalidRequest(format!("failed to receive content: {}", status.message()));
    requests.message().await.map_err(left)
}

/// A single object, line or record may be large; all other messages are limited to a reasonable
/// transaction size.
fn check_size(request: &pb::WriteRunRequest) -> Result<()> {
    at_most("pieces", request.pieces.len(), PIECES)?;
    let is_one = match request.pieces.as_slice() {
        [piece] => {
            matches!(piece.content, Some(Content::Object(_) | Content::Line(_) | Content::Record(_)))
        }
        _ => false,
    };
    match is_one {
        true => Ok(()),
        false => at_most("pieces", request.encoded_len(), limits::CHUNK_BYTES),
    }
}

/// Folds the blocks on a blocking thread, as this is CPU-bound.
pub(super) async fn fold(context: &Context, call: &Call, open: &Open, is_ended: bool) -> Result<()> {
    let place = RunPlace { project: call.project, number: open.staged.number };
    let live = open.staged.live(call.project, &open.id);
    let (store, clock) = (context.store.clone(), context.clock.clone());
    let runtime = tokio::runtime::Handle::current();
    let folding = tokio::task::spawn_blocking(move || {
        let now = || clock();
        runtime.block_on(Box::pin(fold_run(store.as_ref(), place, &live, is_ended, &now)))
    });
    match folding.await.map_err(|_| Error::Broken)?? {
        Folding::Done => Ok(()),
        Folding::Under | Folding::Gone | Folding::Superseded => Err(stage::not_begun()),
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
        assert!(check(PIECES));
        assert!(!check(PIECES + 1));
    }
}
