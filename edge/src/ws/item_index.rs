//! Maps items that the frontier rejected back to items of the frame.
//! The frame is decoded a second time for this, so that normal frames need no bookkeeping; but
//! only once for all of its batches, and rejections are rare.

use matyan_proto::ingest::v1::StreamResponse;
use matyan_wire::client_json::{Frame, Rejection, Rejections};

use super::batch::ItemCounts;

/// The index in the frame of each event and each point.
#[derive(Debug, Default)]
pub(super) struct ItemIndex {
    events: Vec<u32>,
    points: Vec<u32>,
}

impl ItemIndex {
    pub(super) fn from_frame(frame: &Frame<'_>) -> Self {
        let points = frame.metrics.iter().map(|metric| metric.item).collect();
        ItemIndex { events: frame.event_items.clone(), points }
    }

    /// Index in the frame of item `number` of a batch, which follows the batches counted in
    /// `before`.
    pub(super) fn item(&self, before: ItemCounts, batch: ItemCounts, number: u32) -> Option<u32> {
        match number.checked_sub(batch.events) {
            None => self.events.get((before.events + number) as usize).copied(),
            Some(point) if point < batch.points => self.points.get((before.points + point) as usize).copied(),
            Some(_) => None,
        }
    }

    /// Adds the rejections of batch `index`: lists them while reasons are kept, and counts
    /// all of them.
    pub(super) fn add_rejections(
        &self,
        batches: &[ItemCounts],
        index: usize,
        answer: &StreamResponse,
        rejections: &mut Rejections,
    ) {
        let before = batches[..index].iter().copied().sum();
        let rejected_items = answer.rejections.iter().flat_map(|rejection| {
            // A count of 0 means a single item.
            let end = rejection.item.saturating_add(rejection.count.max(1));
            let items =
                (rejection.item..end).map_while(move |number| self.item(before, batches[index], number));
            items.map(move |item| (item, rejection))
        });
        for (item, rejection) in rejected_items {
            let field = rejection.field.clone().into();
            let reason = rejection.reason.clone().into();
            if !rejections.list(Rejection { item, field, reason }) {
                break;
            }
        }
        rejections.count += answer.rejected_items as usize;
    }
}

#[cfg(test)]
mod tests {
    use matyan_proto::ingest::v1 as pb;
    use matyan_wire::client_json::MAX_REASONS;

    use super::*;

    fn answer(rejections: &[(u32, u32)]) -> StreamResponse {
        let rejection =
            |(item, count): &(u32, u32)| pb::Rejection { item: *item, count: *count, ..Default::default() };
        StreamResponse {
            rejections: rejections.iter().map(rejection).collect(),
            rejected_items: rejections.iter().map(|(_, count)| count).sum(),
            ..Default::default()
        }
    }

    #[test]
    fn items_are_located_after_those_of_earlier_batches() {
        // Items 0, 2, and 4 are events, the others points. The batches contain two
        // events, an event and a point, and two points.
        let item_index = ItemIndex { events: vec![0, 2, 4], points: vec![1, 3, 5] };
        let batches = [(2, 0), (1, 1), (0, 2)].map(|(events, points)| ItemCounts { events, points });
        for (index, rejected, expected) in [
            (0, &[(0, 2)][..], &[0, 2][..]),
            (1, &[(0, 1), (1, 1)], &[4, 1]),
            (2, &[(1, 1)], &[5]),
            (2, &[(1, 7)], &[5]),
        ] {
            let mut rejections = Rejections::default();
            item_index.add_rejections(&batches, index, &answer(rejected), &mut rejections);
            let items: Vec<u32> = rejections.reasons.iter().map(|it| it.item).collect();
            let count = rejected.iter().map(|(_, count)| *count as usize).sum::<usize>();
            assert_eq!((items.as_slice(), rejections.count), (expected, count), "{index}");
        }
    }

    #[test]
    fn only_the_first_reasons_are_kept_but_all_are_counted() {
        let item_index = ItemIndex { events: Vec::new(), points: (0..1_000_000).collect() };
        let batches = [ItemCounts { events: 0, points: 1_000_000 }];
        let mut rejections = Rejections::default();
        item_index.add_rejections(&batches, 0, &answer(&[(0, 1_000_000)]), &mut rejections);
        assert_eq!((rejections.count, rejections.reasons.len()), (1_000_000, MAX_REASONS));
    }
}
