//! Backups that are cut off, and gone on with when something has changed: whatever ends well can be restored.

use matyan_proto::backup::v1::piece::Content;

use super::super::reader;
use super::*;

fn origin() -> Origin {
    let applied = |partition, next| pb::Applied { partition, log: 1, next, ..pb::Applied::default() };
    let applied = vec![applied(0, 10), applied(1, 0)];
    let cut = pb::Cut { log: 1, identity: vec![7; 16].into(), partitions: 2, applied, filtered: false };
    Origin { server: "http://a".into(), cut }
}

fn begin(output: &Path) -> Archive {
    Archive::begin(output, &Filters::default(), &origin(), OffsetDateTime::UNIX_EPOCH).unwrap()
}

fn resume(output: &Path, origin: &Origin) -> Option<Archive> {
    Archive::resume(output, &Filters::default(), origin).unwrap()
}

fn open_run(archive: &Archive, run_id: &str) -> RunWriter {
    let mut run = archive.run(pb::RunHead { run_id: run_id.into(), ..Default::default() }).unwrap();
    let line = pb::TerminalLine { number: 1, text: "x".into() };
    run.add(pb::Piece { content: Some(Content::Line(line)) }).unwrap();
    run
}

fn add_blobs(run: &mut RunWriter, paths: &[&str]) {
    let all: BTreeSet<String> = paths.iter().map(|path| (*path).to_owned()).collect();
    for path in &all {
        let blob = pb::Blob { path: path.clone(), content_type: "t".into(), size: path.len() as u64 };
        let mut file = BlobFile::create(&run.place(), blob, &all).unwrap();
        file.write(path.as_bytes()).unwrap();
        run.blob_end(file).unwrap();
    }
}

/// Ends a backup, and answers the runs of the archive, which has to be whole.
fn runs_of(archive: Archive) -> Vec<String> {
    let (root, contents) = archive.finish(&pb::Settings::default(), &[], &[]).unwrap();
    let mut read = reader::Archive::open(&root).unwrap();
    read.check(true, |_| {}).unwrap();
    assert_eq!(read.runs.len(), contents.runs);
    read.runs
}

#[test]
fn what_was_cut_off_and_never_read_again_is_no_part_of_the_archive() {
    let output = tempfile::tempdir().unwrap();
    let mut archive = begin(output.path());
    open_run(&archive, "whole").finish().unwrap();
    archive.run_done("whole");
    drop(open_run(&archive, "deleted"));
    drop(archive);
    let archive = resume(output.path(), &origin()).unwrap();
    drop(open_run(&archive, "deleted too"));
    assert_eq!(runs_of(archive), ["whole"]);
}

#[test]
fn a_run_counts_as_done_if_every_file_of_it_is_in_the_list() {
    let output = tempfile::tempdir().unwrap();
    let archive = begin(output.path());
    for run in ["a", "torn", "z"] {
        open_run(&archive, run).finish().unwrap();
    }
    // A disk that was full in the midst of the list.
    let list = archive.root.join(CHECKSUMS);
    let text = fs::read_to_string(&list).unwrap();
    let is_kept =
        |line: &&str| !line.ends_with("torn/sequences.jsonl") && !line.ends_with("torn/traces.json");
    let lines: String = text.lines().filter(is_kept).map(|line| format!("{line}\n")).collect();
    assert!(lines.contains("torn/run.json"));
    fs::write(&list, lines).unwrap();
    // A power cut behind a name that came to its place and not into the list.
    fs::create_dir(archive.root.join("runs/unlisted")).unwrap();
    drop(archive);
    let archive = resume(output.path(), &origin()).unwrap();
    assert_eq!(["a", "torn", "unlisted", "z"].map(|run| archive.has(run)), [true, false, false, true]);
    assert_eq!(runs_of(archive), ["a", "z"]);
}

#[test]
fn a_file_that_is_missing_from_a_run_makes_it_read_again() {
    let output = tempfile::tempdir().unwrap();
    let archive = begin(output.path());
    open_run(&archive, "r").finish().unwrap();
    fs::remove_file(archive.root.join("runs/r/sequences.jsonl")).unwrap();
    drop(archive);
    let mut archive = resume(output.path(), &origin()).unwrap();
    assert!(!archive.has("r"));
    open_run(&archive, "r").finish().unwrap();
    archive.run_done("r");
    assert_eq!(runs_of(archive), ["r"]);
}

#[test]
fn an_artifact_that_is_called_like_a_run_is_none() {
    let output = tempfile::tempdir().unwrap();
    let archive = begin(output.path());
    let mut run = open_run(&archive, "r");
    add_blobs(&mut run, &["run.json"]);
    run.finish().unwrap();
    drop(archive);
    let archive = resume(output.path(), &origin()).unwrap();
    assert!(archive.has("r"));
    assert_eq!(runs_of(archive), ["r"]);
}

#[test]
fn a_backup_goes_on_with_that_of_the_same_server_alone() {
    let output = tempfile::tempdir().unwrap();
    drop(begin(output.path()));
    let changed = |change: fn(&mut Origin)| {
        let mut changed = origin();
        change(&mut changed);
        resume(output.path(), &changed).is_some()
    };
    assert!(changed(|_| {}));
    assert!(changed(|origin| origin.cut.applied[1].next = 5), "it has gone on");
    assert!(changed(|origin| (origin.cut.applied[0].log, origin.cut.applied[0].next) = (2, 0)));
    assert!(!changed(|origin| origin.server = "http://b".into()));
    assert!(!changed(|origin| origin.cut.identity = vec![8; 16].into()));
    assert!(!changed(|origin| origin.cut.applied[0].next = 9), "another store at the same address");
    assert!(!changed(|origin| origin.cut.applied.clear()));
}

#[test]
fn what_another_process_still_writes_is_left_to_it() {
    let output = tempfile::tempdir().unwrap();
    let first = begin(output.path());
    open_run(&first, "r").finish().unwrap();
    assert!(resume(output.path(), &origin()).is_none());
    drop(first);
    let second = resume(output.path(), &origin()).unwrap();
    assert!(second.has("r") && resume(output.path(), &origin()).is_none());
    // Seen before it was finished, and free since.
    let root = second.root.clone();
    second.finish(&pb::Settings::default(), &[], &[]).unwrap();
    assert!(lock(&root).unwrap().is_none());
}

#[test]
fn an_archive_of_the_same_second_is_not_begun() {
    let output = tempfile::tempdir().unwrap();
    let again = || Archive::begin(output.path(), &Filters::default(), &origin(), OffsetDateTime::UNIX_EPOCH);
    let (root, _) = begin(output.path()).finish(&pb::Settings::default(), &[], &[]).unwrap();
    assert!(exists(&again().map(drop).unwrap_err()));
    crate::pack(&root).unwrap();
    assert!(exists(&again().map(drop).unwrap_err()), "it is packed");
    assert!(!root.exists(), "nothing is left of the attempt");
}

#[test]
fn blobs_whose_paths_no_folder_can_hold_come_back() {
    let output = tempfile::tempdir().unwrap();
    let mut archive = begin(output.path());
    let mut run = open_run(&archive, "r");
    let long = format!("d/{}/e", "x".repeat(300));
    let paths = ["a", "a/b", "a/b/c", "plain/file", "../out", "two\nlines", &long];
    add_blobs(&mut run, &paths);
    run.finish().unwrap();
    archive.run_done("r");
    let root = archive.root.clone();
    assert_eq!(runs_of(archive), ["r"]);
    assert_eq!(fs::read(root.join("runs/r/blobs/a")).unwrap(), b"a");
    assert!(root.join("runs/r/blobs/plain/file").is_file(), "where the published client looks for it");
    let mut run = reader::Archive::open(&root).unwrap().run("r", true, 0).unwrap();
    let mut found = BTreeSet::new();
    while let Some(reader::Step::Blob { blob, file, .. }) = run.next_step().unwrap() {
        assert_eq!(
            (fs::read(file).unwrap(), blob.content_type.as_str()),
            (blob.path.clone().into_bytes(), "t")
        );
        found.insert(blob.path);
    }
    assert_eq!(found, paths.map(str::to_owned).into());
}
