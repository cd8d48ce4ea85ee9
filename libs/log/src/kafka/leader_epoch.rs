//! Leader epochs: numbers of the leaders of a partition, one after another. An unclean election chooses a
//! leader without the last records. The new leader writes other records at their offsets, under a later
//! epoch: by this epoch, a reader recognizes that records that it has read are gone. The safe bindings of
//! librdkafka do not offer epochs.

use std::{
    ffi::CString,
    time::{Duration, Instant},
};

use rdkafka::{
    Offset, TopicPartitionList, bindings as native,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
    message::BorrowedMessage,
    types::RDKafkaErrorCode,
};

use super::{REQUEST_TIMEOUT, Shared, error, log_throttle::ThrottledContext};
use crate::{Error, PartitionInfo, Result, StartPoint, Topic};

/// Longest wait of one poll.
const POLL: Duration = Duration::from_millis(100);

/// The epoch of the leader that wrote a record. Brokers before Kafka 2.1 do not report it.
pub(super) fn leader_epoch(message: &BorrowedMessage<'_>) -> Option<i32> {
    #[expect(unsafe_code, reason = "the message is borrowed, and only read")]
    let epoch = unsafe { native::rd_kafka_message_leader_epoch(message.ptr()) };
    (epoch >= 0).then_some(epoch)
}

/// A list of one partition that is to be fetched from a point. The brokers compare the epoch with their
/// log before anything is fetched.
pub(super) fn list_from(topic: &str, partition: u32, point: StartPoint) -> Result<TopicPartitionList> {
    let mut list = TopicPartitionList::new();
    let offset = Offset::Offset(point.offset.cast_signed());
    list.add_partition_offset(topic, partition.cast_signed(), offset).map_err(error::client)?;
    if let Some(epoch) = point.epoch_before {
        let name = CString::new(topic)
            .map_err(|_| Error::Topic { reason: format!("topic name `{topic}` contains a zero byte") })?;
        #[expect(unsafe_code, reason = "the list contains the partition, and is alive and not shared")]
        unsafe {
            let element = native::rd_kafka_topic_partition_list_find(
                list.ptr(),
                name.as_ptr(),
                partition.cast_signed(),
            );
            native::rd_kafka_topic_partition_set_leader_epoch(element, epoch);
        }
    }
    Ok(list)
}

impl Shared {
    /// The offset of the first record of a later leader, if that is before the point. Blocks.
    pub(super) fn lost_tail(&self, topic: Topic, partition: u32, point: StartPoint) -> Result<Option<u64>> {
        let Some(epoch) = point.epoch_before else { return Ok(None) };
        let PartitionInfo { first, end } = self.watermarks(topic, partition)?;
        // If retention has deleted the record before the point, there is nothing to compare.
        if point.offset <= first {
            return Ok(None);
        }
        let is_later = |offset: u64| {
            if offset >= end {
                Ok(true)
            } else {
                self.epoch_at(topic, partition, offset).map(|found| found > Some(epoch))
            }
        };
        let mut low = first;
        let mut high = point.offset - 1;
        if !is_later(high)? {
            return Ok(None);
        }
        // Epochs never decrease within a log.
        while low < high {
            let middle = low + (high - low) / 2;
            if is_later(middle)? {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        Ok(Some(high))
    }

    /// The epoch of the record at an offset, or of the next one after it. Blocks.
    fn epoch_at(&self, topic: Topic, partition: u32, offset: u64) -> Result<Option<i32>> {
        let consumer: BaseConsumer<ThrottledContext> = self
            .settings
            .record_reader(topic)
            .create_with_context(ThrottledContext)
            .map_err(error::client)?;
        let list = list_from(self.settings.topics.name(topic), partition, offset.into())?;
        consumer.assign(&list).map_err(error::request)?;
        let deadline = Instant::now() + REQUEST_TIMEOUT;
        loop {
            match consumer.poll(POLL) {
                Some(Ok(message)) => return Ok(leader_epoch(&message)),
                Some(Err(source)) if !is_retried(&source) => return Err(error::request(source)),
                _ if Instant::now() >= deadline => {
                    return Err(Error::unavailable("timed out reading the leader epoch of a record"));
                }
                _ => {}
            }
        }
    }
}

/// Whether the client repeats a failed request. The caller repeats the description of an offset that does
/// not exist.
fn is_retried(failure: &KafkaError) -> bool {
    failure.rdkafka_error_code() != Some(RDKafkaErrorCode::AutoOffsetReset)
        && error::request(failure.clone()).is_temporary()
}
