use super::*;

#[test]
fn prefix_ranges_end_after_their_last_key() {
    fn check(prefix: &[u8], end: &[u8]) {
        let range = Range::prefix(prefix.to_vec());
        assert_eq!((range.start.as_ref(), range.end.as_ref()), (prefix, end));
    }
    check(b"a", b"b");
    check(b"a\xff", b"b");
    check(b"a\xfe\xff\xff", b"a\xff");
    check(b"", Limits::KEYS_END);
    check(b"\xff", Limits::KEYS_END);
}

#[test]
fn ranges_overlap_if_they_share_a_key() {
    fn check(left: (&'static str, &'static str), right: (&'static str, &'static str), expected: bool) {
        let left = Range::new(left.0, left.1);
        let right = Range::new(right.0, right.1);
        assert_eq!(left.overlaps(&right), expected, "{left:?} {right:?}");
        assert_eq!(right.overlaps(&left), expected, "{right:?} {left:?}");
    }
    check(("a", "c"), ("b", "d"), true);
    check(("a", "d"), ("b", "c"), true);
    check(("a", "b"), ("b", "c"), false);
    check(("a", "b"), ("a", "b"), true);
    check(("a", "d"), ("b", "b"), false);
    check(("a", "d"), ("c", "b"), false);
}

#[test]
fn remaining_ranges_start_after_or_end_before_a_key() {
    let range = Range::prefix("a/");
    assert_eq!(range.after(&"a/1".into()), Range::new("a/1\0", "a0"));
    assert_eq!(range.before(&"a/1".into()), Range::new("a/", "a/1"));
}

#[test]
fn batch_bytes_count_every_check_and_mutation() {
    let mut batch = Batch::default();
    batch.set("k", "value").clear("k").clear_range(Range::new("a", "bc")).add("k", 1);
    batch
        .set_stamped("p", "s", "v")
        .expect("k", Some("v".into()))
        .expect_unchanged(Range::prefix("x"), Version(1));
    assert_eq!(batch.bytes(), (3 + 5) + 4 + 6 + (3 + 8) + (36 + 1) + (2 + 1) + 2 + 7 * 256);
    assert_eq!(batch.durability, Durability::Synced);
    assert!(batch.validate().is_ok());
}
