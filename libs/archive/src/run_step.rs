//! Steps in which the content of a run is read. The upper byte of a position is the stage; the
//! remaining bytes are a count of blobs or messages, or a file offset.

use std::path::PathBuf;

use matyan_proto::backup::v1::{self as pb, piece::Content};

pub(super) const BLOBS: u64 = 1 << 56;
pub(super) const PIECES: u64 = 2 << 56;
pub(super) const LINES: u64 = 3 << 56;
pub(super) const PARKED_LINES: u64 = 4 << 56;
pub(super) const STAGE: u64 = 0xff << 56;

/// Approximate size of a piece in a message, in addition to its value.
pub(super) const PIECE_BYTES: usize = 64;

/// A part of a run to be sent, with the position after it.
#[derive(Debug)]
pub enum RunStep {
    Blob { blob: pb::Blob, file: PathBuf, position: u64 },
    Pieces { pieces: Vec<pb::Piece>, position: u64 },
}

pub(super) fn piece(content: Content) -> pb::Piece {
    pb::Piece { content: Some(content) }
}
