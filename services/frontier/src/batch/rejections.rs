//! The rejected items of a batch. Adjacent items with the same problem share an entry, and only
//! the first entries are kept, so that a response stays small no matter what a client sends.

use matyan_proto::ingest::v1 as pb;

use super::Problem;

/// Maximum number of entries; documented at `PublishResponse.rejections`.
const MAX_ENTRIES: usize = 1_000;

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Rejections {
    entries: Vec<pb::Rejection>,
    total: usize,
}

impl Rejections {
    pub(super) fn push(&mut self, item: usize, problem: &Problem) {
        self.push_many(item, 1, problem);
    }

    /// Rejects several items. Items must be pushed in ascending order.
    pub(super) fn push_many(&mut self, item: usize, count: usize, problem: &Problem) {
        self.total += count;
        if let Some(last) = self.entries.last_mut()
            && (last.item + last.count) as usize == item
            && (last.field.as_str(), last.reason.as_str()) == (problem.field, problem.reason.as_str())
        {
            last.count += count as u32;
        } else if !self.is_full() {
            self.entries.push(pb::Rejection {
                item: item as u32,
                count: count as u32,
                field: problem.field.to_owned(),
                reason: problem.reason.clone(),
            });
        }
    }

    /// Whether further problems are only counted, so that their text need not be built.
    pub(super) fn is_full(&self) -> bool {
        self.entries.len() >= MAX_ENTRIES
    }

    pub(super) fn count_only(&mut self) {
        self.total += 1;
    }

    pub(crate) fn total(&self) -> usize {
        self.total
    }

    /// Converts to the fields of a response: the first entries, and the total number of
    /// items.
    pub(crate) fn into_parts(self) -> (Vec<pb::Rejection>, u32) {
        (self.entries, self.total as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(item: u32, count: u32, reason: &str) -> pb::Rejection {
        pb::Rejection { item, count, field: "f".into(), reason: reason.into() }
    }

    #[test]
    fn adjacent_items_share_an_entry() {
        let mut rejections = Rejections::default();
        for (item, reason) in [(0, "a"), (1, "a"), (2, "b"), (4, "b")] {
            rejections.push(item, &Problem::new("f", reason));
        }
        assert_eq!(rejections.into_parts(), (vec![entry(0, 2, "a"), entry(2, 1, "b"), entry(4, 1, "b")], 4));
    }

    #[test]
    fn only_the_first_entries_are_listed() {
        let mut rejections = Rejections::default();
        for item in 0..3_000 {
            rejections.push(item, &Problem::new("f", item.to_string()));
        }
        let (entries, total) = rejections.into_parts();
        assert_eq!((entries.len(), total), (MAX_ENTRIES, 3_000));
    }
}
