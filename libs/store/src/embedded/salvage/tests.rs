use std::collections::BTreeMap;

use super::super::manifest::{Manifest, ROWS};
use super::super::{EmbeddedStore, inspect};
use super::*;
use crate::{Batch, Commit, Durability, Range, Scan, Store};

const ROWS_WRITTEN: u32 = 3_000;
const LARGE_EVERY: u32 = 100;
const LARGE_BYTES: usize = 90_000;

type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

fn value(number: u32, version: u8) -> Vec<u8> {
    let bytes = if number.is_multiple_of(LARGE_EVERY) { LARGE_BYTES } else { 500 };
    let mut state = u64::from(number) << 8 | u64::from(version);
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    (0..bytes).map(|_| next()).collect()
}

/// Writes, replaces and deletes rows. With `in_tables`, all of them are in tables in the end.
async fn written(directory: &Path, in_tables: bool) -> Rows {
    let store = EmbeddedStore::open(directory, Settings::default()).await.unwrap();
    let mut rows = Rows::new();
    for version in 1..=2 {
        for first in (0..ROWS_WRITTEN).step_by(50) {
            let mut batch = Batch { durability: Durability::Synced, ..Batch::default() };
            for number in first..first + 50 {
                let key = format!("row/{number:06}").into_bytes();
                if version == 2 && number.is_multiple_of(7) {
                    batch.clear(key.clone());
                    rows.remove(&key);
                } else if version == 1 || number.is_multiple_of(3) {
                    batch.set(key.clone(), value(number, version));
                    rows.insert(key, value(number, version));
                }
            }
            assert!(matches!(store.commit(batch).await.unwrap(), Commit::Done { .. }));
        }
    }
    if in_tables {
        store.close().await.unwrap();
    } else {
        // Like a killed process: the journal keeps the last commits.
        std::mem::forget(store);
        copy_as_if_killed(directory);
    }
    rows
}

/// Copies the store of this process to `killed`, where nothing holds its lock.
fn copy_as_if_killed(directory: &Path) {
    let copied = std::process::Command::new("cp")
        .arg("-r")
        .arg(directory.join("engine"))
        .arg(directory.join("killed-engine"))
        .status();
    assert!(copied.unwrap().success());
    fs::create_dir(directory.join("killed")).unwrap();
    fs::rename(directory.join("killed-engine"), directory.join("killed/engine")).unwrap();
}

async fn rows(directory: &Path) -> Rows {
    let store = EmbeddedStore::open(directory, Settings::default()).await.unwrap();
    let snapshot = store.snapshot().await.unwrap();
    let scan = Scan { bytes: usize::MAX, ..Scan::default() };
    let page = snapshot.scan(&Range::prefix("row/"), scan).await.unwrap();
    drop(snapshot);
    store.close().await.unwrap();
    page.rows.into_iter().map(|(key, value)| (key.to_vec(), value.to_vec())).collect()
}

/// Changes a byte in the middle of a file.
fn damage(path: &Path) {
    let mut content = fs::read(path).unwrap();
    let middle = content.len() / 2;
    content[middle] ^= 1;
    fs::write(path, content).unwrap();
}

fn largest(files: &[super::super::manifest::ListedFile]) -> PathBuf {
    let size = |path: &PathBuf| fs::metadata(path).unwrap().len();
    files.iter().map(|file| file.path.clone()).max_by_key(size).unwrap()
}

/// All rows that are there have their value; those that are missing have none, or their older one.
fn check_rest(salvaged: &Rows, written: &Rows) -> usize {
    for (key, found) in salvaged {
        let number: u32 = std::str::from_utf8(&key[4..]).unwrap().parse().unwrap();
        assert!(written.get(key) == Some(found) || *found == value(number, 1), "row {number}");
    }
    written.iter().filter(|(key, value)| salvaged.get(*key) != Some(value)).count()
}

#[tokio::test]
async fn an_intact_store_is_copied_as_it_is() {
    for in_tables in [true, false] {
        let directory = tempfile::tempdir().unwrap();
        let expected = written(directory.path(), in_tables).await;
        let from = if in_tables { directory.path().to_owned() } else { directory.path().join("killed") };
        let found = inspect(&from, |_, _| {}).unwrap();
        assert!(found.damage.is_empty(), "{:?}", found.damage);
        let to = directory.path().join("salvaged");
        let salvaged = salvage(&from, &to, |_| {}).unwrap();
        assert!(salvaged.losses.is_empty(), "{:?}", salvaged.losses);
        assert!(salvaged.rows >= expected.len() as u64);
        assert!(rows(&to).await == expected, "in tables: {in_tables}");
        // The source was not changed.
        assert!(inspect(&from, |_, _| {}).unwrap().damage.is_empty());
        assert!(rows(&from).await == expected);
    }
}

#[tokio::test]
async fn rows_outside_of_a_damaged_block_are_saved() {
    let directory = tempfile::tempdir().unwrap();
    let expected = written(directory.path(), true).await;
    let manifest = Manifest::read(&directory.path().join("engine").join(ROWS)).unwrap();
    let table = largest(&manifest.tables);
    damage(&table);
    let found = inspect(directory.path(), |_, _| {}).unwrap().damage;
    assert!(matches!(&found[..], [damage] if damage.file == table), "{found:?}");
    let to = directory.path().join("salvaged");
    let salvaged = salvage(directory.path(), &to, |_| {}).unwrap();
    assert!(
        matches!(&salvaged.losses[..], [Loss { file, kind: LossKind::Blocks { count: 1 } }] if *file == table),
        "{:?}",
        salvaged.losses
    );
    let missing = check_rest(&rows(&to).await, &expected);
    assert!((1..100).contains(&missing), "{missing} rows of one block");
}

#[tokio::test]
async fn large_values_other_than_a_damaged_one_are_saved() {
    let directory = tempfile::tempdir().unwrap();
    let expected = written(directory.path(), true).await;
    let manifest = Manifest::read(&directory.path().join("engine").join(ROWS)).unwrap();
    let file = largest(&manifest.blob_files);
    damage(&file);
    let found = inspect(directory.path(), |_, _| {}).unwrap().damage;
    assert!(matches!(&found[..], [damage] if damage.file == file), "{found:?}");
    let to = directory.path().join("salvaged");
    let salvaged = salvage(directory.path(), &to, |_| {}).unwrap();
    assert!(
        matches!(&salvaged.losses[..], [Loss { kind: LossKind::Values { count: 1 }, .. }]),
        "{:?}",
        salvaged.losses
    );
    assert_eq!(check_rest(&rows(&to).await, &expected), 1);
}

#[tokio::test]
async fn commits_around_a_damaged_one_are_saved() {
    let directory = tempfile::tempdir().unwrap();
    let expected = written(directory.path(), false).await;
    let from = directory.path().join("killed");
    let (_, journal) = super::super::journal::journals(&from.join("engine")).unwrap().pop().unwrap();
    let mut content = fs::read(&journal).unwrap();
    // The last commit but one has deleted and replaced rows.
    let starts = super::super::journal::pieces(&content).filter_map(|piece| match piece {
        super::super::journal::Piece::Batch { start, .. } => Some(start),
        super::super::journal::Piece::Unreadable { .. } => None,
    });
    let starts: Vec<usize> = starts.collect();
    content[starts[starts.len() - 2]] = 9;
    fs::write(&journal, content).unwrap();
    let refused = EmbeddedStore::open(&from, Settings::default()).await.err().unwrap().to_string();
    assert!(refused.contains("matyan store salvage"), "{refused}");
    assert_eq!(inspect(&from, |_, _| {}).unwrap().damage.len(), 1);
    let to = directory.path().join("salvaged");
    let salvaged = salvage(&from, &to, |_| {}).unwrap();
    assert!(
        matches!(&salvaged.losses[..], [Loss { kind: LossKind::Commits { commits: Some(1), .. }, .. }]),
        "{:?}",
        salvaged.losses
    );
    let missing = check_rest(&rows(&to).await, &expected);
    assert!((1..=50).contains(&missing), "{missing} rows of one commit");
}

#[tokio::test]
async fn a_store_without_its_manifest_is_saved() {
    let directory = tempfile::tempdir().unwrap();
    let expected = written(directory.path(), true).await;
    fs::write(directory.path().join("engine").join(ROWS).join("current"), "x").unwrap();
    let to = directory.path().join("salvaged");
    let salvaged = salvage(directory.path(), &to, |_| {}).unwrap();
    assert!(matches!(&salvaged.losses[..], [Loss { kind: LossKind::Manifest { .. }, .. }]));
    assert_eq!(check_rest(&rows(&to).await, &expected), 0);
}

#[tokio::test]
async fn an_existing_directory_is_not_overwritten() {
    let directory = tempfile::tempdir().unwrap();
    written(directory.path(), true).await;
    for to in [directory.path(), Path::new("/")] {
        assert!(matches!(salvage(directory.path(), to, |_| {}), Err(Error::Settings { .. })));
    }
    let missing = directory.path().join("nothing");
    assert!(matches!(inspect(&missing, |_, _| {}), Err(Error::Settings { .. })));
    assert!(!missing.exists());
}
