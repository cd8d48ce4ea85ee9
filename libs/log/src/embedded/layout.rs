//! Numbering of the partitions: each partition of each topic has one slot, and each slot one
//! keyspace in the engine. The number of partitions is part of a log's format and never
//! changes, because runs would move to other partitions.

use std::ops::Range;

use crate::{Error, Result, Topic, murmur2};

pub(super) const TOPICS: [Topic; 3] = [Topic::Ingestion, Topic::Control, Topic::DeadLetters];

#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub(super) ingestion_partitions: u32,
}

impl Layout {
    pub(super) fn partitions(self, topic: Topic) -> u32 {
        match topic {
            Topic::Ingestion => self.ingestion_partitions,
            Topic::Control | Topic::DeadLetters => 1,
        }
    }

    /// The slots of a topic, in the order of its partitions.
    pub(super) fn slots(self, topic: Topic) -> Range<usize> {
        let before: u32 = TOPICS.iter().take(topic_index(topic)).map(|topic| self.partitions(*topic)).sum();
        before as usize..(before + self.partitions(topic)) as usize
    }

    pub(super) fn all_slots(self) -> Range<usize> {
        0..self.slots(Topic::DeadLetters).end
    }

    pub(super) fn slot(self, topic: Topic, partition: u32) -> Result<usize> {
        let count = self.partitions(topic);
        if partition < count {
            return Ok(self.slots(topic).start + partition as usize);
        }
        Err(Error::Topic {
            reason: format!("{topic:?} has only {count} partitions, so partition {partition} does not exist"),
        })
    }

    /// The partition of a record with this key; the first if the key is empty.
    pub(super) fn partition_of(self, topic: Topic, key: &[u8]) -> u32 {
        if key.is_empty() { 0 } else { murmur2::partition(key, self.partitions(topic)) }
    }

    /// The keyspace names of all slots, in slot order.
    pub(super) fn names(self) -> Vec<String> {
        let name = |topic| match topic {
            Topic::Ingestion => "ingestion",
            Topic::Control => "control",
            Topic::DeadLetters => "dead-letters",
        };
        TOPICS
            .into_iter()
            .flat_map(|topic| {
                (0..self.partitions(topic)).map(move |partition| format!("{}-{partition}", name(topic)))
            })
            .collect()
    }
}

pub(super) fn topic_index(topic: Topic) -> usize {
    match topic {
        Topic::Ingestion => 0,
        Topic::Control => 1,
        Topic::DeadLetters => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_partition_has_its_own_slot() {
        let layout = Layout { ingestion_partitions: 3 };
        assert_eq!(layout.slots(Topic::Ingestion), 0..3);
        assert_eq!(layout.slots(Topic::Control), 3..4);
        assert_eq!(layout.slots(Topic::DeadLetters), 4..5);
        assert_eq!(
            layout.names(),
            ["ingestion-0", "ingestion-1", "ingestion-2", "control-0", "dead-letters-0"]
        );
        assert_eq!(layout.slot(Topic::Control, 0).unwrap(), 3);
        assert!(layout.slot(Topic::Control, 1).is_err());
    }
}
