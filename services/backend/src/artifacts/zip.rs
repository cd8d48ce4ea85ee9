//! All artifacts of a run as one ZIP archive, built while it is sent, holding one chunk of one
//! file at a time. It is uncompressed and always ZIP64. Sizes and checksums follow each file,
//! because they are not known earlier.

use std::{
    collections::HashSet,
    io::{self, Write},
    sync::Arc,
};

use bytes::Bytes;
use futures::StreamExt;
use matyan_blob::{BlobKey, Content};
use matyan_model::artifact::Artifact;
use matyan_proto::{artifacts::v1::ZipResponse, limits};
use parking_lot::Mutex;
use zip::{
    CompressionMethod, DateTime, ZipWriter,
    write::{SimpleFileOptions, StreamWriter},
};

use crate::server::{
    call::Call,
    deps::Deps,
    error::{Error, Result},
    stream::{Sender, StreamEnd},
};

/// Owner may read and write.
const MODE: u32 = 0o600;

/// Maximum length of an archive's comment.
const COMMENT_BYTES: usize = 60_000;

pub(super) async fn send(
    deps: &Deps,
    call: &Call,
    artifacts: Vec<(String, Artifact)>,
    sender: &Sender<ZipResponse>,
) -> Result<(), StreamEnd> {
    let mut archive = Archive::new((deps.clock)());
    let mut missing = Vec::new();
    for (path, artifact) in artifacts {
        match read(deps, call, &artifact.blob_key).await? {
            Some(content) => send_file(&mut archive, &path, content, sender).await?,
            None => missing.push(path),
        }
    }
    archive.finish(&missing)?;
    send_all(&archive.sink, sender).await
}

/// The bytes of a blob, or `None` if it is missing. An invalid key cannot refer to a blob.
async fn read(deps: &Deps, call: &Call, reference: &str) -> Result<Option<Content>> {
    let Ok(key) = BlobKey::in_project(&call.project_name, reference) else { return Ok(None) };
    Ok(deps.blobs.read(&key, None).await?.map(|(_, content)| content))
}

async fn send_file(
    archive: &mut Archive,
    path: &str,
    mut content: Content,
    sender: &Sender<ZipResponse>,
) -> Result<(), StreamEnd> {
    archive.start(path)?;
    while let Some(piece) = content.next().await {
        archive.write(&piece?)?;
        send_all(&archive.sink, sender).await?;
    }
    Ok(())
}

async fn send_all(sink: &Sink, sender: &Sender<ZipResponse>) -> Result<(), StreamEnd> {
    let mut written = sink.take();
    while !written.is_empty() {
        let chunk = written.split_to(written.len().min(limits::CHUNK_BYTES));
        sender.send(ZipResponse { chunk }).await?;
    }
    Ok(())
}

/// Bytes written by the archive and not yet sent.
#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Sink {
    fn take(&self) -> Bytes {
        std::mem::take(&mut *self.0.lock()).into()
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Archive {
    writer: ZipWriter<StreamWriter<Sink>>,
    options: SimpleFileOptions,
    names: HashSet<String>,
    sink: Sink,
}

impl Archive {
    fn new(now_us: i64) -> Self {
        let sink = Sink::default();
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            // Sizes are unknown in advance, so every file gets ZIP64 fields.
            .large_file(true)
            .unix_permissions(MODE)
            .last_modified_time(date(now_us));
        Self { writer: ZipWriter::new_stream(sink.clone()), options, names: HashSet::new(), sink }
    }

    fn start(&mut self, path: &str) -> Result<()> {
        let name = unique_name(&mut self.names, safe_name(path));
        self.writer.start_file(name, self.options).map_err(|error| build_error(&error))
    }

    fn write(&mut self, piece: &[u8]) -> Result<()> {
        self.writer.write_all(piece).map_err(|error| build_error(&error))
    }

    fn finish(&mut self, missing: &[String]) -> Result<()> {
        if !missing.is_empty() {
            let mut comment =
                format!("Not in this archive, because the blobs are missing: {}", missing.join(", "));
            comment.truncate(comment.floor_char_boundary(COMMENT_BYTES));
            self.writer.set_comment(comment).map_err(|error| build_error(&error))?;
        }
        // `finish` consumes the writer.
        let writer = std::mem::replace(&mut self.writer, ZipWriter::new_stream(Sink::default()));
        writer.finish().map(drop).map_err(|error| build_error(&error))
    }
}

/// Logs a failure. Writing to memory cannot fail, so any failure is a bug.
fn build_error(error: &(dyn std::error::Error + 'static)) -> Error {
    tracing::error!(error, "failed to build ZIP archive");
    Error::Broken
}

/// The time in UTC; ZIP covers the years 1980 to 2107.
fn date(now_us: i64) -> DateTime {
    representable_date(now_us).unwrap_or_default()
}

fn representable_date(now_us: i64) -> Option<DateTime> {
    let now = time::OffsetDateTime::from_unix_timestamp(now_us.div_euclid(1_000_000)).ok()?;
    let year = u16::try_from(now.year()).ok()?;
    DateTime::from_date_and_time(year, now.month().into(), now.day(), now.hour(), now.minute(), now.second())
        .ok()
}

/// A name that stays within the directory the archive is extracted to.
fn safe_name(path: &str) -> String {
    let plain =
        // Backslash and colon have a meaning in paths on Windows.
        |character: char| if character.is_control() || "\\:".contains(character) { '_' } else { character };
    let segments: Vec<String> = path
        .split('/')
        .map(|segment| segment.chars().map(plain).collect::<String>())
        .filter(|segment| !matches!(segment.as_str(), "" | "." | ".."))
        .collect();
    if segments.is_empty() { "_".to_owned() } else { segments.join("/") }
}

/// Makes a name unique within an archive.
fn unique_name(names: &mut HashSet<String>, name: String) -> String {
    let mut own = name.clone();
    let mut number = 1;
    while !names.insert(own.clone()) {
        number += 1;
        own = format!("{name} ({number})");
    }
    own
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_inside_the_target_directory() {
        for (path, name) in [
            ("a/b.txt", "a/b.txt"),
            ("größe 🚀.bin", "größe 🚀.bin"),
            ("../../etc/passwd", "etc/passwd"),
            ("/etc/./passwd", "etc/passwd"),
            ("a//..//b", "a/b"),
            ("C:\\windows", "C__windows"),
            ("a\nb", "a_b"),
            ("..", "_"),
        ] {
            assert_eq!(safe_name(path), name, "{path}");
        }
        let mut names = HashSet::new();
        let mut add = |name: &str| unique_name(&mut names, name.to_owned());
        assert_eq!([add("a"), add("a"), add("a (2)"), add("b")], ["a", "a (2)", "a (2) (2)", "b"]);
    }

    #[test]
    fn dates_outside_the_format_become_its_first_date() {
        assert_eq!(date(1_700_000_000_000_000).to_string(), "2023-11-14 22:13:20");
        assert_eq!(date(0), DateTime::default());
        assert_eq!(date(i64::MAX), DateTime::default());
    }
}
