use super::super::Settings;
use super::super::effects::Effects;
use super::super::engine::Engine;
use super::*;
use crate::{Error, Result};

const VALUE_BYTES: usize = 20_000;
const COMMITS: u8 = 9;

fn open(directory: &Path) -> Result<Engine> {
    Engine::open(directory, &Settings::default())
}

/// Writes commits 1 to 9, each with one large value. The last one records that a sync covered
/// the commits up to `synced`.
fn written(directory: &Path, synced: u8) {
    let engine = open(directory).unwrap();
    for commit in 1..=COMMITS {
        let mut effects = Effects::default();
        effects.writes.insert(vec![commit].into(), Some(vec![commit; VALUE_BYTES].into()));
        let synced = if commit == COMMITS { synced } else { 0 };
        let mark = CommitMark { version: Version(commit.into()), synced: Version(synced.into()) };
        engine.write(&effects, mark).unwrap();
    }
    engine.flush().unwrap();
}

/// Zeroes a page in the middle of a commit's value, like a page that never reached the disk.
fn lose_page(directory: &Path, commit: u8) {
    let path = newest_journal(&directory.join("engine")).unwrap();
    let mut journal = fs::read(&path).unwrap();
    let value = journal.windows(100).position(|bytes| bytes == [commit; 100]).unwrap();
    journal[value + 4_096..value + 8_192].fill(0);
    fs::write(path, journal).unwrap();
}

fn commits(engine: &Engine) -> Vec<u8> {
    let found = (1..=COMMITS).filter(|commit| {
        let value = engine.get_latest(&[*commit]).unwrap();
        value.is_some_and(|value| value == vec![*commit; VALUE_BYTES])
    });
    found.collect()
}

#[test]
fn a_torn_tail_is_cut_off_and_kept_in_a_file() {
    for torn in [1, 5, 8, 9] {
        let directory = tempfile::tempdir().unwrap();
        written(directory.path(), torn - 1);
        lose_page(directory.path(), torn);
        let engine = open(directory.path()).unwrap();
        assert_eq!(commits(&engine), (1..torn).collect::<Vec<_>>());
        assert_eq!(engine.version().unwrap(), Version(u64::from(torn) - 1));
        let aside = fs::metadata(directory.path().join("torn")).unwrap().len();
        let cut = u64::from(COMMITS - torn + 1);
        assert!((cut * 20_000..cut * 20_200).contains(&aside), "{aside} bytes from commit {torn}");
        let effects = Effects::default();
        engine.write(&effects, CommitMark { version: Version(70), synced: Version(0) }).unwrap();
        drop(engine);
        assert_eq!(open(directory.path()).unwrap().version().unwrap(), Version(70));
    }
}

#[test]
fn damage_to_synced_commits_is_refused() {
    for (torn, synced) in [(1, 1), (4, 4), (4, 8)] {
        let directory = tempfile::tempdir().unwrap();
        written(directory.path(), synced);
        lose_page(directory.path(), torn);
        let path = newest_journal(&directory.path().join("engine")).unwrap();
        let before = fs::read(&path).unwrap();
        assert!(matches!(open(directory.path()), Err(Error::Corrupt { .. })), "{torn} of {synced}");
        assert_eq!(fs::read(&path).unwrap(), before);
    }
}

#[test]
fn any_truncation_or_flipped_byte_keeps_the_batches_before_it() {
    let directory = tempfile::tempdir().unwrap();
    written(directory.path(), 0);
    let path = newest_journal(&directory.path().join("engine")).unwrap();
    let journal = without_padding(&fs::read(&path).unwrap()).to_vec();
    assert_eq!(valid_length(&journal), None);
    for length in (0..journal.len()).step_by(97) {
        assert_eq!(valid_length(&journal[..length]), None, "cut at {length}");
        let mut flipped = journal.clone();
        flipped[length] ^= 1;
        let valid = valid_length(&flipped);
        assert!(valid.is_none_or(|valid| valid <= length), "flipped at {length}");
    }
}

#[test]
fn commits_are_cut_off_by_version() {
    let directory = tempfile::tempdir().unwrap();
    written(directory.path(), 0);
    for (version, kept) in [(20, 9), (COMMITS, 9), (6, 6), (6, 6), (0, 0)] {
        cut_after(&directory.path().join("engine"), Version(version.into())).unwrap();
        let engine = open(directory.path()).unwrap();
        assert_eq!(commits(&engine), (1..=kept).collect::<Vec<_>>());
        assert_eq!(engine.version().unwrap(), Version(kept.into()));
    }
}

/// A full disk ends a write anywhere, and the space reserved after it is zeros.
#[test]
fn a_batch_that_was_written_in_part_is_cut_off() {
    let directory = tempfile::tempdir().unwrap();
    written(directory.path(), 0);
    let path = newest_journal(&directory.path().join("engine")).unwrap();
    let journal = without_padding(&fs::read(&path).unwrap()).to_vec();
    let last = length_before(&journal, Version(u64::from(COMMITS) - 1)).unwrap();
    let item = last..last + 60;
    let ends = journal.len() - 60..journal.len();
    for length in item.chain(ends) {
        let mut torn = journal[..length].to_vec();
        torn.resize(journal.len() + 100, 0);
        fs::write(&path, torn).unwrap();
        cut_after(&directory.path().join("engine"), Version(u64::from(COMMITS))).unwrap();
        let engine = open(directory.path()).unwrap();
        assert_eq!(commits(&engine), (1..COMMITS).collect::<Vec<_>>(), "written up to {length}");
    }
}

#[test]
fn a_renewed_journal_has_the_same_content_in_a_new_file() {
    use std::os::unix::fs::MetadataExt;
    let directory = tempfile::tempdir().unwrap();
    written(directory.path(), 0);
    let path = newest_journal(&directory.path().join("engine")).unwrap();
    let (before, content) = (fs::metadata(&path).unwrap(), fs::read(&path).unwrap());
    rewrite(&directory.path().join("engine")).unwrap();
    let (after, rewritten) = (fs::metadata(&path).unwrap(), fs::read(&path).unwrap());
    assert_ne!(before.ino(), after.ino());
    assert!(rewritten.len() < content.len(), "reserved space is not copied");
    assert_eq!(without_padding(&rewritten), without_padding(&content));
    let engine = open(directory.path()).unwrap();
    assert_eq!(commits(&engine), (1..=COMMITS).collect::<Vec<_>>());
}

#[test]
fn a_gap_is_copied_if_data_follows() {
    let directory = tempfile::tempdir().unwrap();
    let (from, to) = (directory.path().join("from"), directory.path().join("to"));
    let mut content = vec![0; 3 * COPY_BYTES];
    content[0] = 1;
    content[2 * COPY_BYTES + 5] = 2;
    fs::write(&from, &content).unwrap();
    copy_synced(&from, &to).unwrap();
    assert_eq!(fs::read(&to).unwrap(), content);
}
