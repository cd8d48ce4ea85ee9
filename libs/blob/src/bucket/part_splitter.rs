//! Splits content into parts of equal size, regardless of the size of its pieces, and counts
//! the bytes.

use bytes::{Bytes, BytesMut};
use futures::StreamExt;

use crate::{Content, Error, Result};

pub(super) struct PartSplitter {
    content: Content,
    size: usize,
    /// Remainder of a piece after the last part was cut.
    rest: Bytes,
    announced: Option<u64>,
    received: u64,
}

pub(super) enum Part {
    Full(Bytes),
    /// The remainder after the full parts, possibly empty.
    Last(Bytes),
}

impl PartSplitter {
    pub(super) fn new(content: Content, size: usize, announced: Option<u64>) -> Self {
        Self { content, size, rest: Bytes::new(), announced, received: 0 }
    }

    pub(super) fn received(&self) -> u64 {
        self.received
    }

    pub(super) async fn next(&mut self) -> Result<Part> {
        let mut part = Vec::new();
        let mut room = self.size;
        loop {
            let taken = self.rest.split_to(self.rest.len().min(room));
            room -= taken.len();
            if !taken.is_empty() {
                part.push(taken);
            }
            if room == 0 {
                return Ok(Part::Full(joined(part)));
            }
            match self.content.next().await.transpose()? {
                Some(piece) => self.count(piece)?,
                None => {
                    self.check(|received, announced| received == announced)?;
                    return Ok(Part::Last(joined(part)));
                }
            }
        }
    }

    fn count(&mut self, piece: Bytes) -> Result<()> {
        self.received += piece.len() as u64;
        self.rest = piece;
        self.check(|received, announced| received <= announced)
    }

    fn check(&self, is_good: impl Fn(u64, u64) -> bool) -> Result<()> {
        match self.announced {
            Some(announced) if !is_good(self.received, announced) => {
                Err(Error::WrongLength { announced, received: self.received })
            }
            _ => Ok(()),
        }
    }
}

/// Copies only if there is more than one piece.
fn joined(mut pieces: Vec<Bytes>) -> Bytes {
    if pieces.len() == 1 {
        return pieces.remove(0);
    }
    let mut whole = BytesMut::with_capacity(pieces.iter().map(Bytes::len).sum());
    for piece in &pieces {
        whole.extend_from_slice(piece);
    }
    whole.freeze()
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;

    async fn cut(pieces: &[&'static str], announced: Option<u64>) -> Result<Vec<usize>> {
        let pieces: Vec<_> = pieces.iter().map(|piece| Ok(Bytes::from_static(piece.as_bytes()))).collect();
        let mut splitter = PartSplitter::new(stream::iter(pieces).boxed(), 3, announced);
        let mut sizes = Vec::new();
        loop {
            match splitter.next().await? {
                Part::Full(part) => sizes.push(part.len()),
                Part::Last(part) => {
                    sizes.push(part.len());
                    return Ok(sizes);
                }
            }
        }
    }

    #[tokio::test]
    async fn all_parts_but_the_last_are_full() {
        assert_eq!(cut(&[], None).await.unwrap(), [0]);
        assert_eq!(cut(&["ab"], None).await.unwrap(), [2]);
        assert_eq!(cut(&["a", "", "bc"], Some(3)).await.unwrap(), [3, 0]);
        assert_eq!(cut(&["abcdefgh"], None).await.unwrap(), [3, 3, 2]);
        assert_eq!(cut(&["a", "bcdefg", "h"], Some(8)).await.unwrap(), [3, 3, 2]);
    }

    #[tokio::test]
    async fn content_of_another_size_than_announced_is_an_error() {
        for announced in [0, 3, 5] {
            let answer = cut(&["ab", "cd"], Some(announced)).await;
            assert!(matches!(answer, Err(Error::WrongLength { .. })), "{answer:?}");
        }
    }
}
