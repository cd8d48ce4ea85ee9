//! Content of an upload, counted as it arrives, and given up if it stops arriving.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{StreamExt, stream};
use parking_lot::Mutex;
use tokio::time::timeout;

use super::{LimitReached, free_space::DiskRoom, project_quota::UploadRoom};
use crate::{Content, Error, Result};

/// Time without data after which an upload ends: it holds a file, and a call.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// Waits for the next data of an upload, and fails if there is none for a minute.
pub async fn within_idle_limit<T>(data: impl Future<Output = T>) -> Result<T> {
    timeout(IDLE_TIMEOUT, data).await.map_err(|_| Error::Stalled { seconds: IDLE_TIMEOUT.as_secs() })
}

/// The next piece that is not empty: empty pieces are not a sign that the client sends something.
async fn next_data(content: &mut Content) -> Option<Result<Bytes>> {
    loop {
        match content.next().await {
            Some(Ok(piece)) if piece.is_empty() => {}
            next => return next,
        }
    }
}

/// The room of an upload in its project, which grows with the content.
pub(super) type SharedRoom = Arc<Mutex<UploadRoom>>;

/// The limits that the content of an upload counts towards.
pub(super) struct ContentMeter {
    /// Maximum size of the content.
    pub(super) limit: u64,
    pub(super) received: u64,
    pub(super) disk: Option<DiskRoom>,
    /// `None` for a part, whose upload has its room.
    pub(super) room: Option<SharedRoom>,
}

impl ContentMeter {
    /// Returns the content with an error in place of the first piece that breaks a limit.
    pub(super) fn meter(self, content: Content) -> Content {
        let pieces = stream::unfold(Some((content, self)), |state| async move {
            let (mut content, mut meter) = state?;
            match meter.next(&mut content).await.transpose()? {
                Ok(piece) => Some((Ok(piece), Some((content, meter)))),
                Err(error) => Some((Err(error), None)),
            }
        });
        pieces.boxed()
    }

    async fn next(&mut self, content: &mut Content) -> Result<Option<Bytes>> {
        let Some(piece) = within_idle_limit(next_data(content)).await?.transpose()? else { return Ok(None) };
        let bytes = piece.len() as u64;
        self.received += bytes;
        if self.received > self.limit {
            return Err(LimitReached::Size { limit: self.limit }.into());
        }
        if let Some(disk) = &mut self.disk {
            disk.count(bytes).await?;
        }
        if let Some(room) = &self.room {
            room.lock().grow_to(self.received)?;
        }
        Ok(Some(piece))
    }
}
