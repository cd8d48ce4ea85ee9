use super::*;
use crate::Key;

const START: Version = Version(100);

fn effects(keys: &[&'static str], cleared: &[Range]) -> Effects {
    let writes = keys.iter().map(|key| (Key::from(*key), None)).collect();
    Effects { writes, cleared: cleared.to_vec(), swept: vec![] }
}

#[test]
fn only_writes_after_the_given_version_count() {
    let now = Instant::now();
    let mut window = RecentWrites::new(START);
    window.record(Version(101), now, &effects(&["a", "b/1"], &[]));
    window.record(Version(102), now, &effects(&["c"], &[Range::new("d", "f")]));
    let check = |range: Range, since: u64, expected: bool| {
        assert_eq!(window.unchanged(&range, Version(since)), expected, "{range:?} since {since}");
    };
    check(Range::prefix("b/"), 100, false);
    check(Range::prefix("b/"), 101, true);
    check(Range::prefix("b/1/"), 100, true);
    check(Range::prefix("c"), 101, false);
    check(Range::prefix("c"), 102, true);
    check(Range::prefix("e"), 101, false);
    check(Range::new("f", "g"), 100, true);
    check(Range::new("f", "c"), 100, true);
    check(Range::prefix("z"), 99, false);
}

#[test]
fn age_and_bytes_bound_the_window() {
    let start = Instant::now();
    let mut window = RecentWrites::new(START);
    window.record(Version(101), start, &effects(&["a"], &[]));
    window.record(Version(102), start + MAX_AGE, &effects(&["b"], &[]));
    assert!(window.unchanged(&Range::prefix("c"), START));
    window.record(Version(103), start + MAX_AGE + Duration::from_millis(1), &effects(&["b"], &[]));
    assert!(!window.unchanged(&Range::prefix("c"), START));
    assert!(window.unchanged(&Range::prefix("c"), Version(101)));

    let many = 3 * MAX_BYTES / size_of::<TouchedKeys>();
    for commit in 0..many as u64 {
        window.record(Version(104 + commit), start, &effects(&["a"], &[]));
        assert!(window.bytes <= MAX_BYTES);
    }
    assert!(window.commits.len() < many);
    let kept: usize = window.commits.iter().map(TouchedKeys::bytes).sum();
    assert_eq!(kept, window.bytes);
    assert!(!window.unchanged(&Range::prefix("c"), Version(110)));
    assert!(window.unchanged(&Range::prefix("c"), window.floor));
}
