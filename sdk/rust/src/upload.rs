//! Uploads of files: artifacts, and the payloads of images and audio.
//!
//! A call writes the content to be uploaded next to the spool and returns. The I/O thread encodes it,
//! uploads it, and only then appends the event that announces it, so that a record never refers to
//! missing content. All of it survives the process: the next process that owns the spool continues.
//! The appended event carries the number of the upload, so that an upload whose files could not be
//! removed any more is not announced twice.

mod attempts;
mod content;
mod content_file;
pub(crate) mod manifest;

mod media;
mod parts;
mod target;
mod transfer;

pub(crate) mod worker;

use std::{
    fs::File,
    io::{self, Read as _, Seek as _},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use matyan_proto::{ingest::v1::event::Kind, limits};
use matyan_value::{Context, Value};
use matyan_wire::{
    content_types::{self, START_BYTES},
    headers::UNKNOWN_TYPE,
};
use prost::Message as _;

use crate::{clock, error::ArgumentError, events::Object, run::Run, spool::record, sys::files};
use content::{Draft, RawContent};
use manifest::{Announcement, Encoding, SampleKind};

/// Longest readable part of a name in the path of a payload.
const SLUG_BYTES: usize = 64;

/// Numbers of uploads, never 0. Every spool of this process is written with different ones.
static NEXT_NUMBER: AtomicU64 = AtomicU64::new(1);

/// The reason why a call cannot accept an upload.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// An argument that no server would accept.
    #[error(transparent)]
    Argument(#[from] ArgumentError),
    /// The file cannot be read, or the spool cannot be written.
    #[error("cannot access {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
}

/// Content of an upload.
#[derive(Clone, Copy, Debug)]
pub enum Content<'a> {
    /// A file. One of up to 16 MiB is copied at the call, if the spool has space for it.
    File(&'a Path),
    /// A file that is open. Its path must still lead to this file when it is read: if another file has taken
    /// its place, the upload is lost.
    OpenFile {
        /// The file, which is read from its beginning.
        file: &'a File,
        /// Its path.
        path: &'a Path,
    },
    /// Bytes that are uploaded as they are.
    Bytes(&'a [u8]),
}

/// Samples of audio, frame by frame.
#[derive(Clone, Copy, Debug)]
pub enum Samples<'a> {
    /// Samples of 16 bits.
    I16(&'a [i16]),
    /// Samples that are normalized by their peak.
    F32(&'a [f32]),
}

/// Payload of an image or an audio clip.
#[derive(Clone, Copy, Debug)]
pub enum Payload<'a> {
    /// Content in a format such as `PNG`.
    Encoded {
        /// The content.
        content: Content<'a>,
        /// Name of the format, which is also the extension.
        format: &'a str,
    },
    /// Pixels of 8 bits per channel, row by row, which become a PNG.
    Pixels {
        /// The pixels.
        bytes: &'a [u8],
        /// Pixels per row.
        width: u32,
        /// Number of rows.
        height: u32,
        /// 1 gray, 2 gray and alpha, 3 RGB, 4 RGBA.
        channels: u8,
    },
    /// Samples, which become a WAV file.
    Audio {
        /// The samples of all channels, interleaved.
        samples: Samples<'a>,
        /// Hertz.
        rate: u32,
        /// Number of channels.
        channels: u16,
    },
}

impl Run {
    /// Uploads an artifact under a path within the run. The content type is guessed if it is absent.
    ///
    /// ```no_run
    /// # fn log(run: &matyan_sdk::Run) -> Result<(), matyan_sdk::UploadError> {
    /// use matyan_sdk::Content;
    ///
    /// run.log_artifact(Content::File("config.yaml".as_ref()), "run-config", None)?;
    /// run.log_artifact(Content::Bytes(b"{}"), "empty.json", Some("application/json"))?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn log_artifact(
        &self,
        content: Content<'_>,
        path: &str,
        content_type: Option<&str>,
    ) -> Result<(), UploadError> {
        let path = normalized(path)?;
        // With the run, it is the name of an object in a blob store, which is as long at most.
        let most = limits::ARTIFACT_PATH_BYTES.saturating_sub(self.id().len() + 1);
        ArgumentError::check_length("path", &path, most)?;
        let content_type = match content_type {
            Some(content_type) => content_type.to_owned(),
            // A path without an extension is described by the extension of the file, or by the content.
            None => match content_types::of_name(&path) {
                UNKNOWN_TYPE => guess(content)?,
                known => known.to_owned(),
            },
        };
        ArgumentError::check_length("content_type", &content_type, limits::CONTENT_TYPE_BYTES)?;
        let draft = Draft { path, content_type, encoding: Encoding::Identity };
        self.submit(&[(draft, RawContent::Whole(content))], &Announcement::Artifact, None)
    }

    /// Stores objects whose payloads, one or none for each, are uploaded first. The values get the
    /// members `s3_key`, and `format`, `width`, `height`, and `rate` as far as they are known and
    /// missing.
    pub fn log_payloads(
        &self,
        object: &Object<'_>,
        payloads: &[Option<Payload<'_>>],
    ) -> Result<(), UploadError> {
        // Uploads may end in any order, so the step is assigned by the call.
        let step = self.object_step(object.name, object.context, object.step);
        let object = &Object { step, ..object.clone() };
        let place = unique_place()?;
        let mut values = object.values.to_vec();
        let mut uploads = Vec::new();
        for ((index, value), payload) in (0..).zip(&mut values).zip(payloads) {
            let Some(payload) = payload else { continue };
            let (format, encoding, raw) = payload.parts()?;
            let path = payload_path(object, index, &extension(&format), &place);
            value.insert("s3_key".to_owned(), Value::Text(format!("{}/{path}", self.id())));
            for (key, described) in encoding.description(format) {
                value.entry(key.to_owned()).or_insert(described);
            }
            let content_type = content_types::of_name(&path).to_owned();
            uploads.push((Draft { path, content_type, encoding }, raw));
        }
        let described = Object { values: &values, ..object.clone() };
        if uploads.is_empty() {
            return Ok(self.log_object(&described)?);
        }
        let event = described.to_event()?;
        record::encode_event(Kind::LogObject(event.clone()), 0)?;
        let announcement = Announcement::Object(hex::encode(event.encode_to_vec()));
        self.submit(&uploads, &announcement, object.time_us)
    }

    /// Writes uploads to the spool of this process. The last one announces all of them.
    fn submit(
        &self,
        uploads: &[(Draft, RawContent<'_>)],
        announcement: &Announcement,
        time_us: Option<i64>,
    ) -> Result<(), UploadError> {
        let count = uploads.len() as u64;
        let first = NEXT_NUMBER.fetch_add(count, Ordering::Relaxed);
        let last = first + count - 1;
        let time_us = time_us.unwrap_or_else(clock::now_us);
        let mut outcome = Ok(());
        self.use_spool(|spool| {
            let Some(_upload) = spool.begin_upload() else { return false };
            let parts: Vec<u64> = (first..last).collect();
            outcome = uploads.iter().zip(first..).try_for_each(|((draft, raw), number)| {
                if number == last {
                    draft.write(spool, number, raw, announcement, (time_us, parts.clone()))
                } else {
                    draft.write(spool, number, raw, &Announcement::Part, (time_us, Vec::new()))
                }
            });
            if outcome.is_ok() {
                return true;
            }
            for number in first..=last {
                content::discard(spool, number);
            }
            // Files of the caller are its own affair.
            if uploads.iter().all(|(_, raw)| raw.is_readable())
                && let Err(UploadError::File { source, .. }) = std::mem::replace(&mut outcome, Ok(()))
            {
                // A spool that has been removed since has no directory.
                if spool.with_writer(|writer| writer.is_retired()) {
                    return false;
                }
                // Like a value that the spool has no space for.
                spool.drop_upload(&source);
            }
            true
        });
        worker::wake();
        outcome
    }
}

impl<'a> Payload<'a> {
    /// Returns the content of the file that is stored for this payload.
    pub fn encode(self) -> Result<Vec<u8>, UploadError> {
        let (_, encoding, raw) = self.parts()?;
        Ok(media::encoded(encoding, &raw.bytes()?)
            .map_err(|error| ArgumentError::new("payload", format!("cannot be encoded: {error}")))?)
    }

    /// Format, encoding, and content, after a check that they fit together.
    fn parts(self) -> Result<(String, Encoding, RawContent<'a>), ArgumentError> {
        match self {
            Self::Encoded { content, format } => {
                Ok((format.to_owned(), Encoding::Identity, RawContent::Whole(content)))
            }
            Self::Pixels { bytes, width, height, channels } => {
                let expected = u64::from(width) * u64::from(height) * u64::from(channels);
                if !(1..=4).contains(&channels) || expected == 0 || expected != bytes.len() as u64 {
                    let found = bytes.len();
                    let reason = format!(
                        "expected 1 to 4 channels and one byte for each of {width} x {height} x {channels}, found {found} bytes"
                    );
                    return Err(ArgumentError::new("pixels", reason));
                }
                let encoding = Encoding::Png { width, height, channels };
                Ok(("PNG".to_owned(), encoding, RawContent::Whole(Content::Bytes(bytes))))
            }
            Self::Audio { samples, rate, channels } => {
                let (raw, kind, count) = match samples {
                    Samples::I16(samples) => (RawContent::I16(samples), SampleKind::I16, samples.len()),
                    Samples::F32(samples) => (RawContent::F32(samples), SampleKind::F32, samples.len()),
                };
                if rate == 0 || channels == 0 || !count.is_multiple_of(channels.into()) {
                    let reason = format!(
                        "expected a rate and whole frames of {channels} channels, found {count} samples"
                    );
                    return Err(ArgumentError::new("samples", reason));
                }
                Ok(("wav".to_owned(), Encoding::Wav { rate, channels, samples: kind }, raw))
            }
        }
    }
}

/// Guesses the content type by the name of a file, or by the first bytes.
fn guess(content: Content<'_>) -> Result<String, UploadError> {
    let (name, start) = match content {
        Content::Bytes(bytes) => (String::new(), bytes[..bytes.len().min(START_BYTES)].to_vec()),
        Content::OpenFile { mut file, path } => {
            let mut start = Vec::new();
            let read = file.rewind().and_then(|()| file.take(START_BYTES as u64).read_to_end(&mut start));
            read.map_err(|source| UploadError::File { path: path.to_owned(), source })?;
            (path.to_string_lossy().into_owned(), start)
        }
        Content::File(path) => {
            let mut start = Vec::new();
            match File::open(path) {
                // A directory can be opened; a later step reports that it is a directory.
                Ok(file) => drop(file.take(START_BYTES as u64).read_to_end(&mut start)),
                // The name may say enough.
                Err(error) if files::is_lack_of_descriptors(&error) => {}
                Err(source) => return Err(UploadError::File { path: path.to_owned(), source }),
            }
            (path.to_string_lossy().into_owned(), start)
        }
    };
    Ok(content_types::of_content(&name, &start).to_owned())
}

/// First folder of the paths of objects, which readers do not list as artifacts.
const OBJECTS_FOLDER: &str = "seq";

/// Returns the path of an artifact as the gateway accepts it, without empty and `.` segments.
fn normalized(path: &str) -> Result<String, ArgumentError> {
    ArgumentError::check_length("path", path, limits::ARTIFACT_PATH_BYTES)?;
    let segments: Vec<_> = path.split('/').filter(|segment| !matches!(*segment, "" | ".")).collect();
    let reason = if path.starts_with('/') {
        "expected a relative path, found a leading `/`"
    } else if segments.is_empty() {
        "expected a relative path, found none"
    } else if segments.contains(&"..") {
        "expected a path inside of the run, found `..`"
    } else if segments.len() > 1 && segments[0] == OBJECTS_FOLDER {
        "expected a path outside of `seq/`, where the objects of series are: store it under another name"
    } else if path.chars().any(char::is_control) {
        "expected no control characters"
    } else {
        return Ok(segments.join("/"));
    };
    Err(ArgumentError::new("path", reason))
}

/// A format as a file extension.
fn extension(format: &str) -> String {
    let is_usable =
        !format.is_empty() && format.len() <= 16 && format.bytes().all(|it| it.is_ascii_alphanumeric());
    if is_usable { format.to_ascii_lowercase() } else { "bin".to_owned() }
}

/// A place for an object without a step, whose step the server assigns.
fn unique_place() -> Result<String, UploadError> {
    let mut bytes = [0; 8];
    let filled = getrandom::fill(&mut bytes).map_err(io::Error::other);
    filled.map_err(|source| UploadError::File { path: "/dev/urandom".into(), source })?;
    Ok(hex::encode(bytes))
}

/// Path of a payload within the run: different for every context, name, step, and index. The readable
/// part is for people who look into the blob store.
fn payload_path(object: &Object<'_>, index: u32, extension: &str, unique: &str) -> String {
    let sequence = sequence_id(object.name, object.context);
    let slug = object.name.chars().map(|it| if it.is_ascii_alphanumeric() || it == '-' { it } else { '_' });
    let slug: String = slug.take(SLUG_BYTES).collect();
    let place = object.step.map_or_else(|| unique.to_owned(), |step| step.to_string());
    format!("seq/{slug}-{sequence}/{place}-{index}.{extension}")
}

fn sequence_id(name: &str, context: &Context) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(context.stored().as_bytes());
    // No JSON text contains this byte, so no two pairs give the same text.
    hasher.update(&[0]);
    hasher.update(name.as_bytes());
    hex::encode(&hasher.finalize().as_bytes()[..8])
}

#[cfg(test)]
mod tests {
    use matyan_value::Map;

    use super::*;

    #[test]
    fn payload_paths_differ_by_context_name_step_and_index() {
        let values = [Map::new()];
        let train = Context::parse(r#"{"subset":"train"}"#).unwrap();
        let none = Context::default();
        let path = |name: &str, context: &Context, step, index| {
            let object =
                Object { name, context, dtype: "image", step, epoch: None, time_us: None, values: &values };
            payload_path(&object, index, "png", "u")
        };
        let all = [
            path("a", &none, Some(1), 0),
            path("a", &train, Some(1), 0),
            path("b", &none, Some(1), 0),
            path("a", &none, Some(-1), 0),
            path("a", &none, Some(1), 1),
            path("a", &none, None, 0),
            path("a/b", &none, Some(1), 0),
            path("a.b", &none, Some(1), 0),
        ];
        let different: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(different.len(), all.len(), "{all:?}");
        assert!(path("../é", &none, Some(7), 2).starts_with("seq/____-"));
        assert!(all.iter().all(|path| !path.split('/').any(|segment| matches!(segment, "" | "." | ".."))));
    }

    #[test]
    fn paths_that_the_gateway_refuses_are_refused_at_the_call() {
        let long = "x".repeat(limits::ARTIFACT_PATH_BYTES + 1);
        for path in ["", ".", "./", "/a", "../a", "a/../b", "a\nb", "seq/a", "./seq//a", &long] {
            assert_eq!(normalized(path).unwrap_err().argument, "path", "{path}");
        }
        for path in ["a", "a/b.txt", "..a", "é ü", "seq", "a/seq/b"] {
            assert_eq!(normalized(path).unwrap(), path);
        }
        for path in ["a/b/", "./a/b", "a//b", "a/./b"] {
            assert_eq!(normalized(path).unwrap(), "a/b", "{path}");
        }
    }

    #[test]
    fn pixels_and_samples_have_to_fit() {
        let pixels =
            |bytes, channels| Payload::Pixels { bytes, width: 2, height: 1, channels }.parts().is_ok();
        assert!(pixels(&[0; 6], 3));
        assert!(!pixels(&[0; 5], 3));
        assert!(!pixels(&[0; 10], 5));
        let samples = |samples, channels| {
            Payload::Audio { samples: Samples::I16(samples), rate: 8000, channels }.parts().is_ok()
        };
        assert!(samples(&[0; 4], 2));
        assert!(!samples(&[0; 3], 2));
        assert!(!samples(&[0; 3], 0));
    }

    #[test]
    fn a_format_is_an_extension_if_it_can_be() {
        assert_eq!(
            ["PNG", "jpeg", "", "a/b", "x".repeat(20).as_str()].map(extension),
            ["png", "jpeg", "bin", "bin", "bin"]
        );
    }
}
