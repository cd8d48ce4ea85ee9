//! Conversion of requests to domain types, with all checks of the fields, except of the batch
//! itself; errors name the field. The content of a batch is checked in `batch`, because one bad
//! item must not affect the others.

use bytes::Bytes;
use matyan_blob::{
    BlobKey, MAX_UNSIZED_PARTS, MAX_UPLOAD_BYTES, MultipartUpload, RunFolder, UPLOAD_ID_BYTES, UnsizedUpload,
    is_valid_folder_name,
};
use matyan_proto::{ingest::v1 as pb, limits};
use matyan_wire::headers;
use tonic::metadata::MetadataMap;

use crate::{
    batch,
    error::{Error, Result},
    field_checks::{artifact_path_check, content_type_check, longer_than},
    run_id::RunId,
};

/// Metadata of a call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Caller {
    /// Project name; empty for the default project.
    pub(crate) project: String,
    /// Name of the caller; empty if unknown.
    pub(crate) identity: String,
    pub(crate) trace: Option<Bytes>,
}

impl Caller {
    pub(crate) fn parse(metadata: &MetadataMap) -> Result<Self> {
        let project = text(metadata, headers::PROJECT, limits::PROJECT_BYTES)?;
        if !project.is_empty() && !is_valid_folder_name(project) {
            return Err(Error::field(headers::PROJECT, "is not a valid project name"));
        }
        let identity = text(metadata, headers::CALLER, limits::NAME_BYTES)?;
        let trace = metadata.get(headers::TRACEPARENT).and_then(|trace| traceparent(trace.as_bytes()));
        Ok(Self { project: project.to_owned(), identity: identity.to_owned(), trace })
    }

    /// Key of the blob that the run refers to by this reference.
    fn blob_key(&self, reference: &str) -> Result<BlobKey> {
        BlobKey::in_project(&self.project, reference).map_err(|error| match error {
            matyan_blob::Error::BadKey { reason, .. } => {
                Error::field("artifact_path", format!("is not a path inside the run: {reason}"))
            }
            error => error.into(),
        })
    }
}

fn text<'m>(metadata: &'m MetadataMap, name: &'static str, limit: usize) -> Result<&'m str> {
    let Some(value) = metadata.get(name) else { return Ok("") };
    match value.to_str() {
        Ok(value) if value.len() <= limit => Ok(value),
        Ok(_) => Err(Error::field(name, longer_than(limit))),
        Err(_) => Err(Error::field(name, "is not visible ASCII")),
    }
}

/// Parses a W3C trace context of the form `version-trace-span-flags`. Any other value is
/// ignored, because a bad trace is not a reason to refuse data.
pub(crate) fn traceparent(text: &[u8]) -> Option<Bytes> {
    let is_valid = text.len() == 55
        && text.iter().enumerate().all(|(at, byte)| match at {
            2 | 35 | 52 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        });
    is_valid.then(|| Bytes::copy_from_slice(text))
}

/// The producer that numbers the batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Producer {
    pub(crate) id: [u8; 16],
    /// Whether the id was generated for this connection, because the client has none.
    pub(crate) ephemeral: bool,
}

impl Producer {
    /// Returns the client's producer, or a producer with a new id.
    fn parse(id: &[u8], new_id: impl FnOnce() -> [u8; 16]) -> Result<Self> {
        if id.is_empty() {
            return Ok(Self { id: new_id(), ephemeral: true });
        }
        let id = id.try_into().map_err(|_| Error::field("producer_id", "must have 16 bytes or be empty"))?;
        Ok(Self { id, ephemeral: false })
    }
}

#[derive(Debug)]
pub(crate) struct OpenCommand {
    pub(crate) run: RunId,
    pub(crate) producer: Producer,
    pub(crate) series: Vec<pb::SeriesDef>,
    pub(crate) acknowledged: u64,
    /// Whether the client asks for a response at once, which says what the frontier can do.
    pub(crate) asks_for_features: bool,
}

impl OpenCommand {
    pub(crate) fn parse(open: pb::StreamOpen, new_id: impl FnOnce() -> [u8; 16]) -> Result<Self> {
        let series =
            batch::decode_series(&open.dictionary).map_err(|reason| Error::field("dictionary", reason))?;
        if open.producer_id.is_empty() && open.acknowledged > 0 {
            return Err(Error::field("acknowledged", "is given without a producer id"));
        }
        if open.acknowledged > MAX_SEQUENCE {
            return Err(Error::field("acknowledged", "is larger than the sequence number of any batch"));
        }
        let mut producer = Producer::parse(&open.producer_id, new_id)?;
        producer.ephemeral |= open.ephemeral;
        // Definitions that were never acknowledged may be missing from the log.
        if open.acknowledged == 0 && !series.is_empty() {
            let reason = "is given, but no batch that defines its series has been acknowledged";
            return Err(Error::field("dictionary", reason));
        }
        Ok(Self {
            run: RunId::from_field(open.run_id)?,
            producer,
            series,
            acknowledged: open.acknowledged,
            asks_for_features: open.asks_for_features,
        })
    }
}

/// No producer sends as many batches.
const MAX_SEQUENCE: u64 = u64::MAX / 2;

#[derive(Debug)]
pub(crate) struct PublishCommand {
    pub(crate) run: RunId,
    pub(crate) producer: Producer,
    pub(crate) sequence: u64,
    pub(crate) batch: Bytes,
    /// Whether a batch with a bad item is refused as a whole.
    pub(crate) all_or_nothing: bool,
}

impl PublishCommand {
    pub(crate) fn parse(request: pb::PublishRequest, new_id: impl FnOnce() -> [u8; 16]) -> Result<Self> {
        let producer = Producer::parse(&request.producer_id, new_id)?;
        let sequence = match (producer.ephemeral, request.sequence) {
            (true, 0) => 1,
            (true, _) => return Err(Error::field("sequence", "is given without a producer id")),
            (false, 0) => return Err(Error::field("sequence", "is 0: with a producer id it starts at 1")),
            (false, sequence) => sequence,
        };
        let run = RunId::from_field(request.run_id)?;
        Ok(Self { run, producer, sequence, batch: request.batch, all_or_nothing: request.all_or_nothing })
    }
}

/// The blob that an upload is for.
#[derive(Debug)]
pub(crate) struct UploadTarget {
    pub(crate) key: BlobKey,
    /// Reference to the blob from within the run.
    pub(crate) reference: String,
    pub(crate) content_type: String,
    /// Size of the content, if the client knows it.
    pub(crate) size: Option<u64>,
}

impl UploadTarget {
    pub(crate) fn parse(caller: &Caller, request: pb::PresignRequest) -> Result<Self> {
        let run = RunId::from_field(request.run_id)?;
        artifact_path_check(&request.artifact_path)
            .map_err(|reason| Error::field("artifact_path", reason))?;
        content_type_check(&request.content_type).map_err(|reason| Error::field("content_type", reason))?;
        let content_type = if request.content_type.is_empty() {
            headers::UNKNOWN_TYPE.to_owned()
        } else {
            request.content_type
        };
        let folder = RunFolder::new(&caller.project, run.as_str())?;
        let reference = folder.reference(&request.artifact_path);
        let size = request.size;
        Ok(Self { key: caller.blob_key(&reference)?, reference, content_type, size })
    }
}

/// The extent of an upload in parts, as far as a client knows it before it sends the parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UploadExtent {
    Size(u64),
    PartCount(u32),
}

impl UploadExtent {
    pub(crate) fn parse(size: u64, part_count: u32) -> Result<Self> {
        match (size, part_count) {
            (_, 0) => upload_size(size).map(Self::Size),
            (0, 1..=MAX_UNSIZED_PARTS) => Ok(Self::PartCount(part_count)),
            (0, _) => Err(Error::field("part_count", format!("is not from 1 to {MAX_UNSIZED_PARTS}"))),
            _ => Err(Error::field("part_count", "is given together with `size`: give only the size")),
        }
    }

    /// The size, if it is known.
    pub(crate) fn size(self) -> Option<u64> {
        match self {
            Self::Size(size) => Some(size),
            Self::PartCount(_) => None,
        }
    }
}

/// An upload in parts, as its client describes it.
#[derive(Debug)]
pub(crate) enum PartedUpload {
    Sized(MultipartUpload),
    Unsized(UnsizedUpload),
}

/// Returns an upload in parts, and the reference to its blob.
pub(crate) fn parted_upload(
    caller: &Caller,
    upload: Option<pb::PartedUpload>,
) -> Result<(PartedUpload, String)> {
    let upload = upload.ok_or_else(|| Error::field("upload", "is missing"))?;
    let pb::PartedUpload { upload_id: id, run_id, artifact_path, content_type, size, part_count } = upload;
    let no_id = || {
        Error::field("upload_id", "is not the id of an upload: use the id that `BeginUpload` has returned")
    };
    if id.is_empty() || id.len() > UPLOAD_ID_BYTES || id.chars().any(char::is_control) {
        return Err(no_id());
    }
    let extent = UploadExtent::parse(size, part_count)?;
    let run = run_id.clone();
    let target = pb::PresignRequest { run_id, artifact_path, content_type, size: extent.size() };
    let UploadTarget { key, reference, content_type, .. } = UploadTarget::parse(caller, target)?;
    let upload = match extent {
        UploadExtent::Size(size) => PartedUpload::Sized(MultipartUpload { key, id, content_type, size }),
        UploadExtent::PartCount(part_count) => {
            // It becomes the name of a folder.
            if !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return Err(no_id());
            }
            let folder = RunFolder::new(&caller.project, &run)?.parts_reference(&id);
            let folder = caller.blob_key(&folder)?;
            PartedUpload::Unsized(UnsizedUpload { key, folder, content_type, part_count })
        }
    };
    Ok((upload, reference))
}

fn upload_size(size: u64) -> Result<u64> {
    match size {
        0 => Err(Error::field("size", "is 0: upload an empty blob by a URL from `Presign`")),
        1..=MAX_UPLOAD_BYTES => Ok(size),
        _ => Err(Error::field("size", longer_than(usize::try_from(MAX_UPLOAD_BYTES).unwrap_or(usize::MAX)))),
    }
}

#[cfg(test)]
mod tests;
