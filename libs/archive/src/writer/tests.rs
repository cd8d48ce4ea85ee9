//! Interrupted backups that are resumed after something has changed: every backup that
//! completes can be restored.

use matyan_proto::backup::v1::piece::Content;

use super::super::{CHECKSUMS, reader};
use super::*;

fn origin() -> BackupOrigin {
    let applied = |partition, next| pb::Applied { partition, log: 1, next, ..pb::Applied::default() };
    let applied = vec![applied(0, 10), applied(1, 0)];
    let cut = pb::Cut { log: 1, identity: vec![7; 16].into(), partitions: 2, applied, ..pb::Cut::default() };
    BackupOrigin { server: "http://a".into(), cut }
}

fn begin(output: &Path) -> ArchiveWriter {
    ArchiveWriter::begin(output, &BackupFilters::default(), &origin(), OffsetDateTime::UNIX_EPOCH).unwrap()
}

fn resume(output: &Path, origin: &BackupOrigin) -> Option<ArchiveWriter> {
    ArchiveWriter::resume(output, &BackupFilters::default(), origin).unwrap()
}

fn open_run(archive: &ArchiveWriter, run_id: &str) -> RunWriter {
    let mut run = archive.begin_run(pb::RunHead { run_id: run_id.into(), ..Default::default() }).unwrap();
    let line = pb::TerminalLine { number: 1, text: "x".into() };
    run.add(pb::Piece { content: Some(Content::Line(line)) }).unwrap();
    run
}

fn add_blobs(run: &mut RunWriter, paths: &[&str]) {
    let all: BTreeSet<String> = paths.iter().map(|path| (*path).to_owned()).collect();
    for path in &all {
        let blob = pb::Blob { path: path.clone(), content_type: "t".into(), size: path.len() as u64 };
        let mut file = BlobFile::create(&run.folder(), blob, &all).unwrap();
        file.write(path.as_bytes()).unwrap();
        run.finish_blob(file).unwrap();
    }
}

/// Finishes a backup and returns the runs of the archive, which must pass all checks.
fn runs_of(archive: ArchiveWriter) -> Vec<String> {
    let (root, contents) = archive.finish(&pb::Settings::default(), &[], &[]).unwrap();
    let mut read = reader::ArchiveReader::open(&root).unwrap();
    read.check(true, |_| {}).unwrap();
    assert_eq!(read.runs.len(), contents.runs);
    read.runs
}

#[test]
fn an_interrupted_run_that_is_not_read_again_is_not_in_the_archive() {
    let output = tempfile::tempdir().unwrap();
    let mut archive = begin(output.path());
    open_run(&archive, "whole").finish().unwrap();
    archive.mark_run_done("whole");
    drop(open_run(&archive, "deleted"));
    drop(archive);
    let archive = resume(output.path(), &origin()).unwrap();
    drop(open_run(&archive, "deleted too"));
    assert_eq!(runs_of(archive), ["whole"]);
}

#[test]
fn a_run_is_complete_if_all_its_files_are_listed() {
    let output = tempfile::tempdir().unwrap();
    let archive = begin(output.path());
    for run in ["a", "torn", "z"] {
        open_run(&archive, run).finish().unwrap();
    }
    // A disk that filled up while the list was being written.
    let list = archive.root.join(CHECKSUMS);
    let text = fs::read_to_string(&list).unwrap();
    let is_kept =
        |line: &&str| !line.ends_with("torn/sequences.jsonl") && !line.ends_with("torn/traces.json");
    let lines: String = text.lines().filter(is_kept).map(|line| format!("{line}\n")).collect();
    assert!(lines.contains("torn/run.json"));
    fs::write(&list, lines).unwrap();
    // A power failure after the folder was renamed but before it was listed.
    fs::create_dir(archive.root.join("runs/unlisted")).unwrap();
    drop(archive);
    let archive = resume(output.path(), &origin()).unwrap();
    assert_eq!(["a", "torn", "unlisted", "z"].map(|run| archive.has_run(run)), [true, false, false, true]);
    assert_eq!(runs_of(archive), ["a", "z"]);
}

#[test]
fn a_run_with_a_missing_file_is_read_again() {
    let output = tempfile::tempdir().unwrap();
    let archive = begin(output.path());
    open_run(&archive, "r").finish().unwrap();
    fs::remove_file(archive.root.join("runs/r/sequences.jsonl")).unwrap();
    drop(archive);
    let mut archive = resume(output.path(), &origin()).unwrap();
    assert!(!archive.has_run("r"));
    open_run(&archive, "r").finish().unwrap();
    archive.mark_run_done("r");
    assert_eq!(runs_of(archive), ["r"]);
}

#[test]
fn an_artifact_may_have_the_name_of_a_run_file() {
    let output = tempfile::tempdir().unwrap();
    let archive = begin(output.path());
    let mut run = open_run(&archive, "r");
    add_blobs(&mut run, &["run.json"]);
    run.finish().unwrap();
    drop(archive);
    let archive = resume(output.path(), &origin()).unwrap();
    assert!(archive.has_run("r"));
    assert_eq!(runs_of(archive), ["r"]);
}

#[test]
fn a_backup_resumes_only_an_archive_of_the_same_server() {
    let output = tempfile::tempdir().unwrap();
    drop(begin(output.path()));
    let changed = |change: fn(&mut BackupOrigin)| {
        let mut changed = origin();
        change(&mut changed);
        resume(output.path(), &changed).is_some()
    };
    assert!(changed(|_| {}));
    assert!(changed(|origin| origin.cut.applied[1].next = 5), "the log has advanced");
    assert!(changed(|origin| (origin.cut.applied[0].log, origin.cut.applied[0].next) = (2, 0)));
    assert!(!changed(|origin| origin.server = "http://b".into()));
    assert!(!changed(|origin| origin.cut.identity = vec![8; 16].into()));
    assert!(!changed(|origin| origin.cut.applied[0].next = 9), "another store at the same address");
    assert!(!changed(|origin| origin.cut.applied.clear()));
}

#[test]
fn an_archive_being_written_by_another_process_is_not_resumed() {
    let output = tempfile::tempdir().unwrap();
    let first = begin(output.path());
    open_run(&first, "r").finish().unwrap();
    assert!(resume(output.path(), &origin()).is_none());
    drop(first);
    let second = resume(output.path(), &origin()).unwrap();
    assert!(second.has_run("r") && resume(output.path(), &origin()).is_none());
    // Found while unfinished, but finished and unlocked since.
    let root = second.root.clone();
    second.finish(&pb::Settings::default(), &[], &[]).unwrap();
    assert!(lock(&root).unwrap().is_none());
}

#[test]
fn two_archives_of_the_same_second_are_refused() {
    let output = tempfile::tempdir().unwrap();
    let again = || {
        ArchiveWriter::begin(output.path(), &BackupFilters::default(), &origin(), OffsetDateTime::UNIX_EPOCH)
    };
    let (root, _) = begin(output.path()).finish(&pb::Settings::default(), &[], &[]).unwrap();
    assert!(is_already_exists(&again().map(drop).unwrap_err()));
    crate::pack(&root).unwrap();
    assert!(is_already_exists(&again().map(drop).unwrap_err()), "a packed archive exists");
    assert!(!root.exists(), "nothing is left of the attempt");
}

#[test]
fn blobs_with_paths_that_are_not_file_names_round_trip() {
    let output = tempfile::tempdir().unwrap();
    let mut archive = begin(output.path());
    let mut run = open_run(&archive, "r");
    let long = format!("d/{}/e", "x".repeat(300));
    let paths = ["a", "a/b", "a/b/c", "plain/file", "../out", "two\nlines", &long];
    add_blobs(&mut run, &paths);
    run.finish().unwrap();
    archive.mark_run_done("r");
    let root = archive.root.clone();
    assert_eq!(runs_of(archive), ["r"]);
    assert_eq!(fs::read(root.join("runs/r/blobs/a")).unwrap(), b"a");
    assert!(root.join("runs/r/blobs/plain/file").is_file(), "where the published client looks for it");
    let mut run = reader::ArchiveReader::open(&root).unwrap().open_run("r", true, 0).unwrap();
    let mut found = BTreeSet::new();
    while let Some(reader::RunStep::Blob { blob, file, .. }) = run.next_step().unwrap() {
        assert_eq!(
            (fs::read(file).unwrap(), blob.content_type.as_str()),
            (blob.path.clone().into_bytes(), "t")
        );
        found.insert(blob.path);
    }
    assert_eq!(found, paths.map(str::to_owned).into());
}
