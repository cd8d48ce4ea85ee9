//! Sets of runs as ascending lists of their numbers.

use matyan_model::ids::RunNumber;

/// The numbers of either of two ascending lists.
pub(super) fn union(a: &[RunNumber], b: &[RunNumber]) -> Vec<RunNumber> {
    let mut a = a;
    let mut b = b;
    let mut all = Vec::with_capacity(a.len().max(b.len()));
    while let (Some(first), Some(second)) = (a.first(), b.first()) {
        all.push(*first.min(second));
        a = &a[usize::from(first <= second)..];
        b = &b[usize::from(second <= first)..];
    }
    all.extend_from_slice(a);
    all.extend_from_slice(b);
    all
}

/// The numbers common to two ascending lists.
pub(super) fn intersection(a: &[RunNumber], b: &[RunNumber]) -> Vec<RunNumber> {
    let (few, many) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    let mut from = 0;
    let mut both = Vec::new();
    for number in few {
        from += many[from..].partition_point(|other| other < number);
        if many.get(from) == Some(number) {
            both.push(*number);
        }
    }
    both
}

/// The numbers of an ascending list that another one does not have.
pub(super) fn difference(from: &[RunNumber], without: &[RunNumber]) -> Vec<RunNumber> {
    let mut without = without;
    let mut rest = Vec::with_capacity(from.len());
    for number in from {
        without = &without[without.partition_point(|other| other < number)..];
        if without.first() != Some(number) {
            rest.push(*number);
        }
    }
    rest
}
