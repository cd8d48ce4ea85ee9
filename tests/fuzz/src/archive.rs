//! An archive as a single text: `\n== {path}\n` before the content of each file. That way,
//! mutations change names and contents rather than the checksums of tar or gzip, which would
//! reject nearly all of them before the code under test runs. For the same reason the archive's
//! own list of checksums is corrected: every existing file that it names gets its actual
//! checksum.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    path::Path,
};

use flate2::{Compression, write::GzEncoder};
use matyan_archive::{
    reader::ArchiveReader,
    writer::{self, BackupFilters, BackupOrigin, BlobFile},
};
use matyan_proto::backup::v1::{self as pb, piece::Content};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

const FILE: &[u8] = b"\n== ";
/// Path suffix of the list of checksums in an archive.
const SUMS: &[u8] = b"/checksums.sha256";

/// Packs the text, then opens and reads the archive to its last line, or has it rejected.
/// Afterwards nothing may be left outside it.
pub(crate) fn read(text: &[u8]) {
    let folder = tempfile::tempdir().expect("a directory can be created");
    // Two directories deeper, so that files that escape from it are detected.
    let above = folder.path().join("a");
    let beside = folder.path().join("a/b");
    fs::create_dir_all(&beside).expect("directories can be created");
    let packed = beside.join("archive.tar.gz");
    pack(text, &packed);
    if let Ok(mut archive) = ArchiveReader::open(&packed) {
        // Errors are valid results.
        let _whole_or_not = archive.check(true, |_| {});
        let _found_or_not = (archive.cut(), archive.blobs_lost());
    }
    for place in [folder.path(), &above, &beside] {
        let left: Vec<_> = fs::read_dir(place).expect("the directory exists").flatten().collect();
        assert_eq!(left.len(), 1, "something was unpacked outside of the archive: {left:?}");
    }
}

/// Packs the sections. Names go into the headers unchanged, bypassing everything that a tar
/// writer would reject.
fn pack(text: &[u8], to: &Path) {
    let file = File::create(to).expect("a file can be created");
    let mut tar = tar::Builder::new(GzEncoder::new(file, Compression::fast()));
    let files: Vec<_> = split(text).into_iter().map(split_name).collect();
    for (name, content) in &files {
        let list = name.strip_suffix(SUMS).map(|root| with_checksums(root, content, &files));
        let content = list.as_deref().unwrap_or(content);
        let mut header = tar::Header::new_gnu();
        let field = &mut header.as_old_mut().name;
        let length = name.len().min(field.len());
        field[..length].copy_from_slice(&name[..length]);
        header.set_entry_type(tar::EntryType::Regular);
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        header.set_cksum();
        tar.append(&header, content).expect("there is enough memory and disk");
    }
    tar.into_inner().and_then(GzEncoder::finish).expect("the archive is written");
}

fn split_name(section: &[u8]) -> (&[u8], &[u8]) {
    match section.iter().position(|byte| *byte == b'\n') {
        Some(end) => (&section[..end], &section[end + 1..]),
        None => (section, &[]),
    }
}

/// Corrects the checksums of the files that the list names. Other lines are unchanged.
fn with_checksums(root: &[u8], list: &[u8], files: &[(&[u8], &[u8])]) -> Vec<u8> {
    let inside =
        |name: &&[u8]| name.strip_prefix(root).and_then(|name| name.strip_prefix(b"/")).map(<[u8]>::to_vec);
    let contents: BTreeMap<_, _> =
        files.iter().filter_map(|(name, content)| Some((inside(name)?, *content))).collect();
    let mut lines = Vec::new();
    for line in list.split_inclusive(|byte| *byte == b'\n') {
        let blanks = line.windows(2).position(|window| window == b"  ");
        let file = blanks.map(|at| &line[at + 2..]).map(|file| file.strip_suffix(b"\n").unwrap_or(file));
        match file.and_then(|file| contents.get(file)) {
            Some(content) => {
                lines.extend_from_slice(hex::encode(Sha256::digest(content)).as_bytes());
                lines.extend_from_slice(&line[blanks.unwrap_or_default()..]);
            }
            None => lines.extend_from_slice(line),
        }
    }
    lines
}

fn split(text: &[u8]) -> Vec<&[u8]> {
    let mut sections = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.windows(FILE.len()).rposition(|window| window == FILE) {
        sections.push(&rest[at + FILE.len()..]);
        rest = &rest[..at];
    }
    sections.reverse();
    sections
}

/// A backup of one run: with its checksums, and without, like the archives of other tools.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let folder = tempfile::tempdir().expect("a directory can be created");
    let root = write_archive(folder.path()).expect("the archive is written");
    let mut summed = Vec::new();
    let mut plain = Vec::new();
    gather(&root, Path::new("top"), &mut |name, content| {
        let section = [FILE, name.as_bytes(), b"\n", content].concat();
        if !name.ends_with("checksums.sha256") {
            plain.extend_from_slice(&section);
        }
        summed.extend_from_slice(&section);
    });
    vec![summed, plain]
}

fn gather(folder: &Path, name: &Path, add: &mut impl FnMut(&str, &[u8])) {
    let mut entries: Vec<_> = fs::read_dir(folder).expect("the directory exists").flatten().collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let name = name.join(entry.file_name());
        if entry.path().is_dir() {
            gather(&entry.path(), &name, add);
        } else {
            let content = fs::read(entry.path()).expect("the file was just written");
            add(name.to_str().expect("generated names are text"), &content);
        }
    }
}

fn write_archive(output: &Path) -> matyan_archive::Result<std::path::PathBuf> {
    let filters = BackupFilters { blobs: true, ..BackupFilters::default() };
    let mut archive =
        writer::ArchiveWriter::begin(output, &filters, &BackupOrigin::default(), OffsetDateTime::UNIX_EPOCH)?;
    let tag = pb::Link { id: "t".into(), name: "good".into() };
    let head = pb::RunHead { run_id: "r".into(), tags: vec![tag], created_us: 1, ..Default::default() };
    let mut run = archive.begin_run(head)?;
    for content in contents() {
        run.add(pb::Piece { content: Some(content) })?;
    }
    let blob = pb::Blob { path: "a.bin".into(), content_type: "text/plain".into(), size: 4 };
    let mut file = BlobFile::create(&run.folder(), blob, &BTreeSet::from(["a.bin".to_owned()]))?;
    file.write(b"blob")?;
    run.finish_blob(file)?;
    run.finish()?;
    archive.mark_run_done("r");
    let experiment = pb::Experiment { name: "baseline".into(), ..Default::default() };
    let entity = pb::Entity {
        id: "e".into(),
        kind: Some(pb::entity::Kind::Experiment(experiment)),
        ..Default::default()
    };
    let tombstone = pb::Tombstone { run_id: "gone".into(), ..Default::default() };
    Ok(archive.finish(&pb::Settings::default(), &[entity], &[tombstone])?.0)
}

fn contents() -> Vec<Content> {
    let value = |text: &str| -> bytes::Bytes {
        let value = matyan_value::json::parse(text).expect("the literal is JSON");
        matyan_value::cbor::encode(&value).into()
    };
    let name = "loss".to_owned();
    let context = r#"{"subset":"train"}"#.to_owned();
    vec![
        Content::Points(pb::Points {
            name,
            context,
            dtype: "float".into(),
            steps: vec![0, 1],
            values: vec![0.5, f64::NAN],
            ..Default::default()
        }),
        Content::Object(pb::Object {
            name: "texts".into(),
            dtype: "text".into(),
            value: value(r#"{"type":"text","data":"a text"}"#),
            ..Default::default()
        }),
        Content::Line(pb::TerminalLine { number: 0, text: "a line".into() }),
        Content::Record(pb::LogRecord { message: "hello".into(), ..Default::default() }),
        Content::Artifact(pb::Artifact {
            path: "a.bin".into(),
            blob_key: "r/a.bin".into(),
            ..Default::default()
        }),
        Content::Producer(pb::Producer { id: vec![7; 16].into(), sequence: 3, ..Default::default() }),
        Content::Parked(pb::ParkedItem { record: Some(pb::ParkedRecord::default()), ..Default::default() }),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_corrected_after_a_mutation() {
        let summed = String::from_utf8(seeds().remove(0)).expect("the run contains only text");
        let folder = tempfile::tempdir().expect("a directory can be created");
        let check = |text: &str| {
            let packed = folder.path().join("archive.tar.gz");
            pack(text.as_bytes(), &packed);
            ArchiveReader::open(&packed)?.check(true, |_| {})
        };
        assert!(summed.contains("checksums.sha256") && check(&summed).is_ok());
        assert!(check(&summed.replace("a line", "a longer line")).is_ok());
        let broken = check(&summed.replace("\"a line\"", "")).expect_err("the line is not JSON");
        assert!(broken.to_string().contains("not valid JSON"), "not a checksum error: {broken}");
    }
}
