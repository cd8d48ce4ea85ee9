//! The images, texts and other objects of a copy, and their payloads.

use std::{
    fs::File,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use matyan_edge::LOGGED_PAGE_POLICY;
use matyan_proto::{
    artifacts::v1::{BlobsRequest, BlobsResponse, artifact_service_client::ArtifactServiceClient},
    common::v1::{SeriesKey, SeriesType},
    objects::v1::{
        BatchRequest, Object, Selection, Step, object, object_service_client::ObjectServiceClient,
    },
    published::v1::PublishedSequence,
    runs::v1::SeriesInfo,
};
use prost::Message as _;

use super::{Error, RunCopy, client, file_error, pages::PageFile, run_error};

/// Payloads of a call.
const PAYLOADS_PER_CALL: usize = 256;
/// Bytes of steps that are held while their payloads are copied.
const STEPS_BYTES: usize = 1 << 20;

/// Formats of payloads that web servers recognize by their extensions, so that browsers need not guess them,
/// and that browsers never run. Anything else, such as SVG or a point cloud, is `bin`.
const EXTENSIONS: &[&str] = &["bmp", "flac", "gif", "jpeg", "jpg", "mp3", "ogg", "png", "wav", "webp"];
const OTHER: &str = "bin";
const PAGE: &str = "html";

/// Shows the rest of a page that is not in a sandbox as text.
const TEXT_OUTSIDE: &str = "<script>if (self.origin !== 'null') document.write('<plaintext>')</script>";

/// Writes the objects of a sequence, and returns where they are.
pub(super) async fn write(
    copy: &mut RunCopy<'_>,
    index: usize,
    info: &SeriesInfo,
) -> Result<PublishedSequence, Error> {
    let path = copy.path(format!("objects/{index}.bin"));
    let mut file = PageFile::create(&path).map_err(file_error(&path))?;
    let read = read_steps(copy, info).await?.into_pages().map_err(file_error(&path))?;
    let mut steps = Vec::new();
    let mut bytes = 0;
    for page in read {
        let page = page.map_err(file_error(&path))?;
        bytes += page.len();
        steps.push(Step::decode(page.as_slice()).map_err(io::Error::other).map_err(file_error(&path))?);
        if steps.len() >= PAYLOADS_PER_CALL || bytes >= STEPS_BYTES {
            bytes = 0;
            write_steps(copy, &mut file, &path, &mut steps).await?;
        }
    }
    write_steps(copy, &mut file, &path, &mut steps).await?;
    let steps = Some(file.list());
    copy.file_done(file.finish().map_err(file_error(&path))?);
    let SeriesInfo { r#type, name, context, .. } = info.clone();
    Ok(PublishedSequence { r#type, name, context, steps })
}

/// Reads all steps into a file without a name: a server ends a stream that nobody reads, and payloads may be
/// large.
async fn read_steps(copy: &RunCopy<'_>, info: &SeriesInfo) -> Result<PageFile, Error> {
    let mut read = PageFile::unnamed(copy.root).map_err(file_error(copy.root))?;
    let request = BatchRequest {
        run_id: copy.run_id.to_owned(),
        r#type: info.r#type,
        sequences: vec![SeriesKey { name: info.name.clone(), context: info.context.clone() }],
        selection: Some(Selection::default()),
    };
    let answer = client!(ObjectServiceClient, copy.channel.clone()).batch(request).await;
    let mut messages = answer.map_err(run_error(copy.run_id))?.into_inner();
    while let Some(message) = messages.message().await? {
        for step in message.sequence.unwrap_or_default().steps {
            read.put(&step, step.step, step.step).map_err(file_error(copy.root))?;
        }
    }
    Ok(read)
}

/// Copies the payloads of steps, and writes the steps.
async fn write_steps(
    copy: &mut RunCopy<'_>,
    file: &mut PageFile,
    path: &Path,
    steps: &mut Vec<Step>,
) -> Result<(), Error> {
    let mut uris: Vec<_> =
        steps.iter_mut().flat_map(|step| &mut step.objects).filter_map(payload_of).collect();
    for some in uris.chunks_mut(PAYLOADS_PER_CALL) {
        write_payloads(copy, some).await?;
    }
    for step in steps.drain(..) {
        file.put(&step, step.step, step.step).map_err(file_error(path))?;
    }
    Ok(())
}

/// The URI of the payload of an object, and the extension of the file for it.
struct PayloadUri<'o> {
    uri: &'o mut String,
    extension: &'static str,
}

fn payload_of(object: &mut Object) -> Option<PayloadUri<'_>> {
    let (uri, extension) = match object.kind.as_mut()? {
        object::Kind::Image(image) => (&mut image.blob_uri, extension_of(&image.format)),
        object::Kind::Audio(audio) => (&mut audio.blob_uri, extension_of(&audio.format)),
        object::Kind::Html(page) => (&mut page.blob_uri, PAGE),
        object::Kind::PointCloud(cloud) => (&mut cloud.blob_uri, extension_of(&cloud.format)),
        object::Kind::Text(_) | object::Kind::Distribution(_) | object::Kind::Figure(_) => return None,
    };
    Some(PayloadUri { uri, extension })
}

fn extension_of(format: &str) -> &'static str {
    let known = EXTENSIONS.iter().find(|extension| extension.eq_ignore_ascii_case(format));
    known.copied().unwrap_or(OTHER)
}

/// Copies payloads, and replaces their URIs by the names of their files; empty: the payload is not stored.
async fn write_payloads(copy: &mut RunCopy<'_>, payloads: &mut [PayloadUri<'_>]) -> Result<(), Error> {
    let uris = payloads.iter_mut().map(|payload| std::mem::take(payload.uri)).collect();
    let answer = client!(ArtifactServiceClient, copy.channel.clone()).blobs(BlobsRequest { uris }).await?;
    let mut messages = answer.into_inner();
    let mut open: Option<PayloadFile> = None;
    while let Some(BlobsResponse { index, chunk, last, .. }) = messages.message().await? {
        let payload = payloads.get_mut(index as usize);
        if let (None, Some(payload), false) = (&open, payload, chunk.is_empty()) {
            let file = PayloadFile::create(copy, payload.extension)?;
            payload.uri.clone_from(&file.name);
            open = Some(file);
        }
        if let Some(file) = &mut open {
            file.add(&chunk)?;
        }
        if last && let Some(file) = open.take() {
            copy.file_done(file.bytes);
        }
    }
    Ok(())
}

/// The beginning of every logged page in a copy. A Matyan server sends the policy in a header instead. The page loads
/// and sends nothing. If it is not in a sandbox, because someone has opened its address, the rest of the file is text
/// instead of a program with the rights of the copy.
fn page_start() -> String {
    format!(
        "<!doctype html><meta charset=\"utf-8\"><meta http-equiv=\"Content-Security-Policy\" \
         content=\"{LOGGED_PAGE_POLICY}\">{TEXT_OUTSIDE}\n"
    )
}

struct PayloadFile {
    name: String,
    path: PathBuf,
    file: File,
    bytes: u64,
}

impl PayloadFile {
    fn create(copy: &mut RunCopy<'_>, extension: &str) -> Result<Self, Error> {
        let name = format!("{}.{extension}", copy.next_payload());
        let path = copy.shared_path(format!("payloads/{name}"));
        let file = File::create_new(&path).map_err(file_error(&path))?;
        let mut payload = Self { name, path, file, bytes: 0 };
        if extension == PAGE {
            payload.add(page_start().as_bytes())?;
        }
        Ok(payload)
    }

    fn add(&mut self, chunk: &[u8]) -> Result<(), Error> {
        self.bytes += chunk.len() as u64;
        self.file.write_all(chunk).map_err(file_error(&self.path))
    }
}

/// Whether a series has objects that a copy can show.
pub(super) fn is_shown(info: &SeriesInfo) -> bool {
    !matches!(info.r#type(), SeriesType::Unspecified | SeriesType::Metric)
}

#[cfg(test)]
mod tests {
    use matyan_proto::objects::v1::{Html, Image};

    use super::*;

    fn extension(kind: object::Kind) -> &'static str {
        payload_of(&mut Object { index: 0, kind: Some(kind) }).unwrap().extension
    }

    #[test]
    fn no_web_server_takes_a_payload_for_a_program() {
        let image =
            |format: &str| object::Kind::Image(Image { format: format.to_owned(), ..Image::default() });
        assert_eq!(extension(image("PNG")), "png");
        for format in ["svg", "html", "ply", "../x", "", "js"] {
            assert_eq!(extension(image(format)), "bin", "{format}");
        }
        assert_eq!(extension(object::Kind::Html(Html::default())), "html");
        // The policy and the check come before any content of the page.
        assert!(page_start().contains(LOGGED_PAGE_POLICY) && page_start().ends_with("</script>\n"));
    }
}
