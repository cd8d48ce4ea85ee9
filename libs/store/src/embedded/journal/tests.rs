use super::super::Settings;
use super::super::commit_mark::CommitMark;
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

/// A way to damage a journal, at the start of a commit's batch.
type Damage = fn(&mut [u8], usize);

/// Bytes of a batch before its first item.
const START_BYTES: usize = 13;
/// Place of the sequence number in them.
const SEQUENCE: std::ops::Range<usize> = START_BYTES - size_of::<u64>()..START_BYTES;

/// Damage to the structure of a commit that starts at the given offset.
const DAMAGES: [(&str, Damage); 6] = [
    ("start tag", |journal, start| journal[start] = 9),
    ("item tag", |journal, start| journal[start + START_BYTES] = 7),
    ("longer value", |journal, start| journal[start + START_BYTES + 17] += 1),
    ("shorter value", |journal, start| journal[start + START_BYTES + 18] -= 1),
    ("trailer", |journal, start| {
        let trailer = journal[start..].windows(4).position(|bytes| bytes == b"FJL\x03").unwrap();
        journal[start + trailer] ^= 1;
    }),
    ("zeroed sector", |journal, start| {
        let sector = start / 512 * 512;
        journal[sector..sector + 512].fill(0);
    }),
];

/// Offset of the first commit after `version` in a journal.
fn start_after(journal: &[u8], version: u8) -> usize {
    length_before(journal, Version(version.into())).unwrap()
}

fn damage(path: &Path, damage: Damage, commit: u8) -> Vec<u8> {
    let mut journal = read_content(path).unwrap();
    let start = start_after(&journal, commit - 1);
    damage(&mut journal, start);
    fs::write(path, &journal).unwrap();
    journal
}

fn check_refused(directory: &Path, damaged: &Path, name: &str) {
    let before = fs::read(damaged).unwrap();
    let refused = open(directory).err().unwrap();
    assert!(matches!(refused, Error::Corrupt { .. }), "{name}: {refused}");
    let message = refused.to_string();
    assert!(message.contains(&damaged.display().to_string()), "{name}: {message}");
    assert!(message.contains("at byte") && message.contains("matyan store salvage"), "{name}: {message}");
    assert_eq!(fs::read(damaged).unwrap(), before, "{name}");
}

#[test]
fn rule_52_damage_to_the_frame_of_a_synced_commit_is_refused() {
    for (name, break_frame) in DAMAGES {
        for commit in [1, 4, 8] {
            let directory = tempfile::tempdir().unwrap();
            written(directory.path(), 8);
            let path = newest_journal(&directory.path().join("engine")).unwrap();
            damage(&path, break_frame, commit);
            check_refused(directory.path(), &path, name);
        }
    }
}

/// A torn tail looks like damage, but no later commit says that it was synced.
#[test]
fn a_broken_frame_that_was_not_synced_is_a_torn_tail() {
    for (name, break_frame) in DAMAGES {
        let directory = tempfile::tempdir().unwrap();
        written(directory.path(), 3);
        let path = newest_journal(&directory.path().join("engine")).unwrap();
        damage(&path, break_frame, 5);
        let engine = open(directory.path()).unwrap();
        // The sector also has the end of commit 4.
        let last = if name == "zeroed sector" { 3 } else { 4 };
        assert_eq!(commits(&engine), (1..=last).collect::<Vec<_>>(), "{name}");
        assert!(directory.path().join("torn").exists(), "{name}");
    }
}

/// fjall syncs a journal before it creates the next one.
#[test]
fn rule_52_any_damage_to_an_older_journal_is_refused() {
    for (name, break_frame) in DAMAGES {
        for commit in [1, 5, 9] {
            let directory = tempfile::tempdir().unwrap();
            written(directory.path(), 0);
            let sealed = newest_journal(&directory.path().join("engine")).unwrap();
            let next = directory.path().join("engine/7.jnl");
            fs::write(&next, "").unwrap();
            damage(&sealed, break_frame, commit);
            check_refused(directory.path(), &sealed, name);
        }
    }
}

/// A commit that was lost as a whole is noticed by the numbers of its neighbors.
#[test]
fn rule_52_damage_over_several_commits_is_refused_if_one_of_them_was_synced() {
    for (synced, expected) in [(3, Tail::Torn(0)), (4, Tail::Synced(0)), (6, Tail::Synced(0))] {
        let directory = tempfile::tempdir().unwrap();
        written(directory.path(), synced);
        let path = newest_journal(&directory.path().join("engine")).unwrap();
        let mut journal = fs::read(&path).unwrap();
        let start = start_after(&journal, 3);
        let end = start_after(&journal, 6);
        journal[start..end].fill(0);
        let found = match find_tail(&journal, None) {
            Tail::Torn(offset) if offset == start => Tail::Torn(0),
            Tail::Synced(offset) if offset == start => Tail::Synced(0),
            other => other,
        };
        assert_eq!(found, expected, "synced up to {synced}");
    }
}

#[test]
fn the_first_lost_commit_follows_the_last_one_of_its_opening() {
    let opening = 3 << 32;
    for (last, next, lost) in [
        (Some(4), 6, 5),
        (Some(4), 9, 5),
        (Some(4), 5, 4),
        (None, 9, 8),
        (Some(4), opening + 1, opening),
        (Some(4), opening + 5, opening + 1),
        (Some(opening + 2), opening + 5, opening + 3),
    ] {
        assert_eq!(first_lost_between(last.map(Version), Version(next)), Version(lost), "{last:?} to {next}");
    }
}

#[test]
fn any_truncation_or_flipped_byte_keeps_the_batches_before_it() {
    let directory = tempfile::tempdir().unwrap();
    written(directory.path(), 0);
    let path = newest_journal(&directory.path().join("engine")).unwrap();
    let journal = without_padding(&fs::read(&path).unwrap()).to_vec();
    assert_eq!(find_tail(&journal, None), Tail::Clean);
    let batches = |journal: &[u8]| -> Vec<usize> {
        let starts = pieces(journal).map_while(|piece| match piece {
            Piece::Batch { start, .. } => Some(start),
            Piece::Unreadable { .. } => None,
        });
        starts.collect()
    };
    let all = batches(&journal);
    for offset in (0..journal.len()).step_by(97) {
        let before = all.iter().copied().filter(|start| *start <= offset);
        let mut expected: Vec<usize> = before.collect();
        let start = expected.pop().unwrap();
        if SEQUENCE.contains(&(offset - start)) {
            // The checksum of a batch does not cover it: see the test of sequence numbers.
            continue;
        }
        let mut flipped = journal.clone();
        flipped[offset] ^= 1;
        for damaged in [&journal[..offset], &flipped] {
            assert_eq!(batches(damaged), expected, "at {offset}");
            let is_clean = offset == start && damaged.len() == offset;
            let tail = match start {
                _ if is_clean => Tail::Clean,
                // The format of the store was synced when it was created.
                0 => Tail::Synced(0),
                _ => Tail::Torn(start),
            };
            assert_eq!(find_tail(damaged, None), tail, "at {offset}");
        }
    }
}

#[test]
fn rule_52_a_damaged_sequence_number_is_noticed() {
    let directory = tempfile::tempdir().unwrap();
    written(directory.path(), 8);
    let path = newest_journal(&directory.path().join("engine")).unwrap();
    let journal = without_padding(&fs::read(&path).unwrap()).to_vec();
    for commit in 1..COMMITS {
        let start = start_after(&journal, commit - 1);
        let before = pieces(&journal).filter_map(|piece| match piece {
            Piece::Batch { start: found, .. } if found < start => Some(found),
            _ => None,
        });
        let before = before.last();
        for bit in 0..u64::BITS as usize {
            let mut flipped = journal.clone();
            flipped[start + SEQUENCE.start + bit / 8] ^= 1 << (bit % 8);
            let Tail::Synced(found) = find_tail(&flipped, None) else {
                panic!("bit {bit} of commit {commit}")
            };
            // If two numbers are equal, either may be the damaged one.
            assert!(found == start || Some(found) == before, "bit {bit} of commit {commit}: {found}");
        }
    }
    let start = start_after(&journal, 4);
    let mut flipped = journal;
    flipped[start + SEQUENCE.start + 2] ^= 1;
    fs::write(&path, &flipped).unwrap();
    check_refused(directory.path(), &path, "sequence number");
}

/// The last number of a journal is noticed by the first one of the next.
#[test]
fn rule_52_sequence_numbers_ascend_over_journals() {
    let directory = tempfile::tempdir().unwrap();
    written(directory.path(), 0);
    let engine = directory.path().join("engine");
    let sealed = newest_journal(&engine).unwrap();
    let mut journal = without_padding(&fs::read(&sealed).unwrap()).to_vec();
    let last = start_after(&journal, COMMITS - 1);
    let next = journal.split_off(last);
    fs::write(&sealed, &journal).unwrap();
    fs::write(engine.join("7.jnl"), &next).unwrap();
    let tails = || {
        let mut tails = Vec::new();
        let visit = |_: &Path, _: &[u8], tail| {
            tails.push(tail);
            Ok(())
        };
        read_all(&engine, visit).unwrap();
        tails
    };
    assert_eq!(tails(), [Tail::Clean, Tail::Clean]);
    let before_last = start_after(&journal, COMMITS - 2);
    journal[before_last + SEQUENCE.start + 3] ^= 1;
    fs::write(&sealed, &journal).unwrap();
    assert_eq!(tails(), [Tail::Clean, Tail::Synced(0)]);
    check_refused(directory.path(), &engine.join("7.jnl"), "sequence number");
}

#[test]
fn content_is_read_without_padding() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("1.jnl");
    let mut content = vec![0; 3 * COPY_BYTES + 7];
    content[1] = 1;
    content[2 * COPY_BYTES + 5] = 2;
    fs::write(&path, &content).unwrap();
    assert_eq!(read_content(&path).unwrap(), &content[..2 * COPY_BYTES + 6]);
    fs::write(&path, vec![0; COPY_BYTES]).unwrap();
    assert_eq!(read_content(&path).unwrap(), Vec::<u8>::new());
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
    let before = fs::metadata(&path).unwrap();
    let content = fs::read(&path).unwrap();
    rewrite(&directory.path().join("engine")).unwrap();
    let after = fs::metadata(&path).unwrap();
    let rewritten = fs::read(&path).unwrap();
    assert_ne!(before.ino(), after.ino());
    assert!(rewritten.len() < content.len(), "reserved space is not copied");
    assert_eq!(without_padding(&rewritten), without_padding(&content));
    let engine = open(directory.path()).unwrap();
    assert_eq!(commits(&engine), (1..=COMMITS).collect::<Vec<_>>());
}

#[test]
fn a_gap_is_copied_if_data_follows() {
    let directory = tempfile::tempdir().unwrap();
    let from = directory.path().join("from");
    let to = directory.path().join("to");
    let mut content = vec![0; 3 * COPY_BYTES];
    content[0] = 1;
    content[2 * COPY_BYTES + 5] = 2;
    fs::write(&from, &content).unwrap();
    copy_synced(&from, &to).unwrap();
    assert_eq!(fs::read(&to).unwrap(), content);
}
