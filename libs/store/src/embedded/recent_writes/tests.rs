use rand::{Rng, SeedableRng, rngs::StdRng};

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

/// As many keys as new runs with many params write in two seconds.
#[test]
fn rule_40_the_window_lasts_under_a_load_of_new_runs() {
    let now = Instant::now();
    let mut window = RecentWrites::new(START);
    let keys = (0..1_000).map(|number| format!("index/params/{number:032}"));
    let writes = keys.map(|key| (Key::from(key.into_bytes()), None)).collect();
    let effects = Effects { writes, cleared: vec![], swept: vec![] };
    for commit in 0..600 {
        window.record(Version(101 + commit), now, &effects);
    }
    assert!(window.unchanged(&Range::prefix("unfolded"), START));
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

/// A key of up to four letters out of three, so that keys repeat and are prefixes of each other.
fn random_key(random: &mut StdRng) -> Key {
    let letters = (0..random.random_range(0..5)).map(|_| random.random_range(b'a'..=b'c'));
    Key::from(letters.collect::<Vec<_>>())
}

/// A range that may be empty or inverted.
fn random_range(random: &mut StdRng) -> Range {
    Range { start: random_key(random), end: random_key(random) }
}

#[test]
fn a_search_finds_what_a_look_at_every_key_finds() {
    let seed = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let now = Instant::now();
    for _ in 0..50 {
        let mut window = RecentWrites::new(START);
        let mut commits = Vec::new();
        for version in START.0 + 1..START.0 + 20 {
            let writes = (0..random.random_range(0..8)).map(|_| (random_key(&mut random), None)).collect();
            let cleared: Vec<_> = (0..random.random_range(0..2)).map(|_| random_range(&mut random)).collect();
            let effects = Effects { writes, cleared, swept: vec![] };
            window.record(Version(version), now, &effects);
            commits.push((version, effects));
        }
        for _ in 0..200 {
            let range = random_range(&mut random);
            let since = random.random_range(START.0..START.0 + 21);
            let touches = |effects: &Effects| {
                effects.writes.keys().any(|key| range.contains(key))
                    || effects.cleared.iter().any(|cleared| cleared.overlaps(&range))
            };
            let expected = !commits.iter().any(|(version, effects)| *version > since && touches(effects));
            assert_eq!(window.unchanged(&range, Version(since)), expected, "{range:?} since {since}");
        }
    }
}
