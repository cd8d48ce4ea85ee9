use std::{fs, ops::Range, pin::pin};

use matyan_proto::ingest::v1::IngestionBatch;
use matyan_value::Context;
use prost::Message as _;
use tempfile::TempDir;

use super::*;
use crate::{
    batch::BatchEncoder,
    numbering::RunOrigin,
    sender::outbox::Outbox,
    spool::{
        maintenance,
        reader::{BatchEnd, SpoolReader},
        record,
    },
};

fn config(root: &TempDir) -> Config {
    Config { spool_dirs: vec![root.path().to_owned()], ..Config::default() }
}

fn new_spool(config: &Config, owner: Owner) -> Spool {
    let numbering = Numbering::of_run("http://g", "run", RunOrigin::New);
    Spool::create(config, owner, numbering, Notices::default(), None).unwrap()
}

/// A spool with some events, whose process has ended.
fn left_spool(root: &TempDir, events: usize) -> PathBuf {
    let owner = Owner::of_this_process("run", "http://g", "http://b", 1);
    let spool = new_spool(&config(root), owner);
    for _ in 0..events {
        assert!(spool.append_event(1, 0, &[8; 100]));
    }
    spool.path()
}

/// Number of events, whether these are all events, and the notices.
fn read(root: &TempDir, path: &Path) -> (u32, bool, usize) {
    // A process that another test is starting holds all locks until it executes its program.
    let spool = Arc::new(
        std::iter::repeat(())
            .find_map(|_| {
                std::thread::park_timeout(std::time::Duration::from_millis(1));
                Spool::claim(path, &config(root), Notices::default()).unwrap()
            })
            .expect("the iterator has no end"),
    );
    let mut reader = SpoolReader::new(spool.clone(), Position { segment: 1, offset: 64 }).unwrap();
    let mut batch = BatchEncoder::default();
    reader.fill(&mut batch, BatchEnd::Bytes(usize::MAX), Some(0)).unwrap();
    let is_all = !spool.with_writer(|writer| writer.has_records_after(reader.position()));
    (batch.events(), is_all, spool.notices.take().len())
}

#[test]
fn a_segment_that_was_being_prepared_is_not_waited_for() {
    let root = TempDir::new().unwrap();
    let path = left_spool(&root, 10);
    assert_eq!(read(&root, &path), (10, true, 0));
    fs::write(directory::segment_path(&path, 2), [0; 4096]).unwrap();
    fs::write(directory::segment_path(&path, 3), []).unwrap();
    assert_eq!(read(&root, &path), (10, true, 0));
}

#[test]
fn a_segment_with_a_damaged_header_is_reported_and_skipped() {
    let root = TempDir::new().unwrap();
    // More than the first segment.
    let path = left_spool(&root, 4_000);
    let (all, ..) = read(&root, &path);
    assert_eq!(all, 4_000);
    let first = directory::segment_path(&path, 1);
    let mut bytes = fs::read(&first).unwrap();
    bytes[10] ^= 1;
    fs::write(first, bytes).unwrap();
    let (found, is_all, reports) = read(&root, &path);
    assert!((1..4_000).contains(&found), "{found} events");
    assert!(is_all);
    assert_eq!(reports, 1);
}

/// Zeroes a part of the first segment, as if it had not been written before a power failure.
fn lose(spool: &Path, part: Range<usize>) {
    let path = directory::segment_path(spool, 1);
    let mut bytes = fs::read(&path).unwrap();
    bytes[part].fill(0);
    fs::write(path, bytes).unwrap();
}

/// Offset of an event of `left_spool` in the first segment, which starts with a time record of 16 bytes.
fn offset_of(event: usize) -> usize {
    record::HEADER_BYTES + 16 + event * record::event_len(&[8; 100])
}

#[test]
fn rule_93_records_after_a_lost_page_are_reported() {
    let root = TempDir::new().unwrap();
    for (lost, expected) in [
        (offset_of(10)..offset_of(20), (10, true, 1)),
        (offset_of(0)..offset_of(99), (0, true, 1)),
        (0..offset_of(0), (0, true, 1)),
        (0..4_096, (0, true, 1)),
        // No later record shows the loss.
        (offset_of(90)..offset_of(100), (90, true, 0)),
        // An append that had not ended.
        (offset_of(99)..offset_of(99) + 4, (99, true, 0)),
    ] {
        let path = left_spool(&root, 100);
        lose(&path, lost.clone());
        assert_eq!(read(&root, &path), expected, "{lost:?}");
    }
    let path = left_spool(&root, 4_000);
    lose(&path, offset_of(10)..offset_of(20));
    let (found, is_all, reports) = read(&root, &path);
    assert!((1_000..3_000).contains(&found), "{found} events: the next segment is read");
    assert!(is_all);
    assert_eq!(reports, 1);
}

/// Too many open files are such a failure; here a directory has the name of the segment.
#[test]
fn a_segment_that_cannot_be_opened_for_a_moment_is_not_given_up() {
    let root = TempDir::new().unwrap();
    let path = left_spool(&root, 10);
    let segment = directory::segment_path(&path, 1);
    let aside = path.join("aside");
    fs::rename(&segment, &aside).unwrap();
    fs::create_dir(&segment).unwrap();
    let spool = Arc::new(Spool::claim(&path, &config(&root), Notices::default()).unwrap().unwrap());
    let mut outbox = Outbox::open(spool).unwrap();
    for _ in 0..2 {
        outbox.cut_first().unwrap_err();
        assert!(!outbox.is_finished(&|| 0));
    }
    fs::remove_dir(&segment).unwrap();
    fs::rename(&aside, &segment).unwrap();
    outbox.cut_first().unwrap();
    assert_eq!(outbox.next_frame().unwrap().unwrap().cut.items, 10);
}

#[test]
fn a_written_spool_defines_series_before_it_is_cut_and_not_at_the_call() {
    let root = TempDir::new().unwrap();
    let owner = Owner::of_this_process("run", "http://g", "http://b", 1);
    let config = Config { spool_mode: Some(SpoolMode::Written), ..config(&root) };
    let spool = Arc::new(new_spool(&config, owner));
    let series = Series::new("loss", Context::default(), "float").unwrap();
    assert!(spool.track(&series, 1.0, None, None, clock::now_us()));
    let defined = || Dictionary::open(&spool.path()).unwrap().0.len();
    assert_eq!(defined(), 0);
    let mut outbox = Outbox::open(spool.clone()).unwrap();
    assert!(outbox.next_frame().unwrap().is_some());
    assert_eq!(defined(), 1);
}

#[test]
fn columns_continue_in_the_next_spool() {
    let root = TempDir::new().unwrap();
    let owner = || Owner::of_this_process("run", "http://g", "http://b", 1);
    let series = Series::new("loss", Context::default(), "float").unwrap();
    let values: Vec<f64> = (0..10).map(f64::from).collect();
    let columns = Columns { values: &values, ..Columns::default() };
    let first = new_spool(&config(&root), owner());
    let second = new_spool(&config(&root), owner());
    let mut next = 4;
    first.with_writer(|writer| assert!(writer.retire(writer.end())));
    assert!(!first.track_many(&series, &columns, &mut next));
    assert!(second.track_many(&series, &columns, &mut next));
    assert_eq!((next, second.end().1.items), (10, 6));
}

#[test]
fn a_clock_that_jumps_keeps_the_order_and_every_time() {
    const HOUR: i64 = 3_600_000_000;
    let root = TempDir::new().unwrap();
    let owner = Owner::of_this_process("run", "http://g", "http://b", 1);
    let spool = Arc::new(new_spool(&config(&root), owner));
    let series = Series::new("loss", Context::default(), "float").unwrap();
    let numbers = spool.numbers(&series).unwrap();
    // Steps back by less than a millisecond are threads that overtake each other, or given times.
    let jumps = [0, 5, -HOUR, -400, 3 * HOUR, i64::from(u32::MAX), -1_001, 1, 100_000 * HOUR];
    let mut now = 1_700_000_000_000_000;
    let mut times = Vec::new();
    for at in 0..200 {
        now += jumps[at % jumps.len()];
        let point = TrackedPoint { series: numbers, value: at as f64, step: None, epoch: None, time_us: now };
        assert_eq!(spool.with_writer(|writer| writer.append_point(&point)), AppendResult::Appended);
        times.push(now);
    }
    let mut reader = SpoolReader::new(spool.clone(), Position { segment: 1, offset: 64 }).unwrap();
    let mut batch = BatchEncoder::default();
    reader.fill(&mut batch, BatchEnd::Bytes(usize::MAX), Some(0)).unwrap();
    let batch = IngestionBatch::decode(&*batch.encode(0, &[]).bytes).unwrap();
    assert!(batch.points[0].steps.iter().copied().eq(0..200));
    assert_eq!(batch.points[0].times_us, times);
}

/// Each attempt asks the file system for its free space, and a dict may have 10,000 members.
#[test]
fn a_full_spool_is_not_asked_for_space_by_every_point_of_a_time() {
    const NOW: i64 = 1_700_000_000_000_000;
    let root = TempDir::new().unwrap();
    let owner = Owner::of_this_process("run", "http://g", "http://b", 1);
    let spool = new_spool(&Config { spool_bytes: LEAST_SPOOL_BYTES, ..config(&root) }, owner);
    let series = Series::new("loss", Context::default(), "float").unwrap();
    let series = spool.numbers(&series).unwrap();
    let append = |time_us| {
        let point = TrackedPoint { series, value: 0.5, step: None, epoch: None, time_us };
        spool.with_writer(|writer| writer.append_point(&point))
    };
    while append(NOW) == AppendResult::Appended {}
    // Now there is space, which only an attempt to get it finds out.
    spool.with_writer(|writer| (1..100).for_each(|number| writer.forget_segment(number)));
    assert_eq!((append(NOW), append(NOW + 999_999)), (AppendResult::Full, AppendResult::Full));
    assert_eq!(append(NOW + 1_000_000), AppendResult::Appended);

    while append(NOW) == AppendResult::Appended {}
    spool.with_writer(|writer| (1..100).for_each(|number| writer.forget_segment(number)));
    spool.with_writer(Writer::look_at_once);
    assert!(
        spool.with_writer(|writer| writer.is_full()),
        "maintenance makes space until an attempt succeeds"
    );
    assert_eq!(append(NOW), AppendResult::Appended, "a caller that waits does not wait longer");
}

/// Its files would be put into, or removed from, a spool that another process has taken over.
#[tokio::test]
async fn a_spool_is_not_left_while_an_upload_is_put_into_it() {
    let root = TempDir::new().unwrap();
    let owner = Owner { is_offline: true, ..Owner::of_this_process("run", "http://g", "http://b", 1) };
    let spool = Arc::new(new_spool(&config(&root), owner));
    let upload = spool.begin_upload().unwrap();
    let left = spool.clone();
    let leaving = std::thread::spawn(move || left.leave(Duration::from_secs(60)));
    while !spool.is_left() {
        tokio::task::yield_now().await;
    }
    let mut keeping = pin!(maintenance::run(spool.clone()));
    for _ in 0..10 {
        assert!(futures::poll!(&mut keeping).is_pending());
        tokio::task::yield_now().await;
    }
    assert!(spool.begin_upload().is_none());
    drop(upload);
    keeping.await;
    leaving.join().unwrap();
    assert!(spool.is_unlocked.load(Ordering::Acquire));
}
