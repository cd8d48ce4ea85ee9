//! Files that clients upload in parts, to a signed URL for each. A client says how many parts it sends, and not how large
//! the file is.

use futures::stream::BoxStream;
use matyan_proto::ingest::v1::{
    AbortUploadRequest, BeginUploadRequest, CompleteUploadRequest, CompleteUploadResponse, PartedUpload,
    PresignPartRequest, PresignPartResponse,
};
use tonic::{Response, Status};

use crate::{CALLS_AT_A_TIME, Channels, in_order};

/// Maximum number of parts of an upload whose size is not known.
pub const MAX_PARTS: usize = 10_000;

/// A file of a run that is uploaded in parts. The calls about one upload describe it in the same way.
#[derive(Clone, Debug)]
pub struct PartedFile {
    pub run_id: String,
    pub path: String,
    /// Empty if it is not known.
    pub content_type: String,
}

impl PartedFile {
    /// Begins an upload, and returns its id.
    pub async fn begin(&self, channels: &Channels, part_count: usize) -> Result<String, Status> {
        let request = BeginUploadRequest {
            run_id: self.run_id.clone(),
            artifact_path: self.path.clone(),
            content_type: self.content_type.clone(),
            part_count: u32::try_from(part_count).unwrap_or(u32::MAX),
            ..BeginUploadRequest::default()
        };
        Ok(channels.ingest().begin_upload(request).await?.into_inner().upload_id)
    }

    /// The signed URLs of all parts of an upload, in order.
    pub fn signed_parts<'c>(
        &'c self,
        channels: &'c Channels,
        upload_id: &'c str,
        part_count: usize,
    ) -> BoxStream<'c, Result<PresignPartResponse, Status>> {
        let sign = move |part_number: u32| {
            let upload = self.upload(upload_id, part_count);
            let request = PresignPartRequest { upload, part_number };
            async move { channels.ingest().presign_part(request).await.map(Response::into_inner) }
        };
        in_order(CALLS_AT_A_TIME, (1..).take(part_count).map(sign))
    }

    /// Joins the parts of an upload. May be repeated.
    pub async fn complete(
        &self,
        channels: &Channels,
        upload_id: &str,
        part_count: usize,
    ) -> Result<CompleteUploadResponse, Status> {
        let upload = self.upload(upload_id, part_count);
        let request = CompleteUploadRequest { upload, etags: Vec::new() };
        Ok(channels.ingest().complete_upload(request).await?.into_inner())
    }

    /// Discards the parts of an upload. May be repeated.
    pub async fn abort(&self, channels: &Channels, upload_id: &str, part_count: usize) -> Result<(), Status> {
        let upload = self.upload(upload_id, part_count);
        channels.ingest().abort_upload(AbortUploadRequest { upload }).await?;
        Ok(())
    }

    /// An upload as the frontier knows it.
    fn upload(&self, upload_id: &str, part_count: usize) -> Option<PartedUpload> {
        Some(PartedUpload {
            upload_id: upload_id.to_owned(),
            run_id: self.run_id.clone(),
            artifact_path: self.path.clone(),
            content_type: self.content_type.clone(),
            part_count: u32::try_from(part_count).unwrap_or(u32::MAX),
            ..PartedUpload::default()
        })
    }
}

/// Finds the first number of a part that is not from 1 to the number of parts, or that repeats another one. `None` if the
/// parts are numbered from one without gaps, in any order.
pub fn misnumbered_part(numbers: &[i64]) -> Option<i64> {
    let mut is_sent = vec![false; numbers.len()];
    numbers.iter().copied().find(|number| {
        let place = usize::try_from(*number).ok().and_then(|number| number.checked_sub(1));
        match place.and_then(|place| is_sent.get_mut(place)) {
            Some(is_sent) => std::mem::replace(is_sent, true),
            None => true,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_numbered_from_one() {
        let check = |numbers: &[i64], wrong: Option<i64>| {
            assert_eq!(misnumbered_part(numbers), wrong, "{numbers:?}");
        };
        check(&[], None);
        check(&[1], None);
        check(&[2, 3, 1], None);
        check(&[0], Some(0));
        check(&[2], Some(2));
        check(&[1, 1], Some(1));
        check(&[-1], Some(-1));
        check(&[1, 3], Some(3));
    }
}
