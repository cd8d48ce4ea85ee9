//! The id of a topic, which a broker assigns when it creates the topic: a topic that was deleted and
//! recreated has another id. The safe bindings of librdkafka do not offer the id.

use std::{
    ffi::{CStr, CString, c_char},
    ptr::NonNull,
    time::Duration,
};

use rdkafka::{
    ClientContext, bindings as native, client::Client, error::KafkaError, types::RDKafkaErrorCode,
    types::RDKafkaRespErr,
};

use super::error;
use crate::{Error, Result};

/// Asks the brokers for the id of a topic. Blocks.
pub(super) fn topic_id(client: &Client<impl ClientContext>, topic: &str, wait: Duration) -> Result<[u8; 16]> {
    let name = CString::new(topic)
        .map_err(|_| Error::Topic { reason: format!("topic name `{topic}` contains a zero byte") })?;
    // Any broker answers this request, and names the broker that the description is requested from.
    // Without this request, the description may go to a broker that was lost minutes ago.
    client.fetch_metadata(Some(topic), wait).map_err(error::request)?;
    let id = describe(client, &name, wait).map_err(error::request)?;
    if id == [0; 16] {
        return Err(Error::Topic {
            reason: format!("topic `{topic}` has no id: the brokers must run Apache Kafka 2.8 or later"),
        });
    }
    Ok(id)
}

fn describe(
    client: &Client<impl ClientContext>,
    name: &CStr,
    wait: Duration,
) -> Result<[u8; 16], KafkaError> {
    let wait_ms = i32::try_from(wait.as_millis()).unwrap_or(i32::MAX);
    // The queue, the options, the topics, and the event are destroyed in the reverse of this order.
    let queue = OwnedPointer::queue(client);
    let options = OwnedPointer::options(client, wait_ms)?;
    let topics = OwnedPointer::topics(name);
    #[expect(unsafe_code, reason = "all pointers are valid, and librdkafka copies what it keeps")]
    let event = unsafe {
        native::rd_kafka_DescribeTopics(
            client.native_ptr(),
            topics.pointer.as_ptr(),
            options.pointer.as_ptr(),
            queue.pointer.as_ptr(),
        );
        // The request times out earlier, which is an event too.
        native::rd_kafka_queue_poll(queue.pointer.as_ptr(), wait_ms.saturating_add(SPARE_MS))
    };
    let event = NonNull::new(event).ok_or_else(|| failure(RDKafkaErrorCode::OperationTimedOut))?;
    id_in(&OwnedPointer { pointer: event, destroy: native::rd_kafka_event_destroy })
}

/// Time by which polling outlasts the request.
const SPARE_MS: i32 = 1_000;

fn id_in(event: &OwnedPointer<native::rd_kafka_event_t>) -> Result<[u8; 16], KafkaError> {
    #[expect(unsafe_code, reason = "what these functions return belongs to the event, which outlives it")]
    unsafe {
        check(native::rd_kafka_event_error(event.pointer.as_ptr()))?;
        let result = native::rd_kafka_event_DescribeTopics_result(event.pointer.as_ptr());
        if result.is_null() {
            return Err(failure(RDKafkaErrorCode::BadMessage));
        }
        let mut count = 0;
        let described = native::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
        if count != 1 || described.is_null() {
            return Err(failure(RDKafkaErrorCode::BadMessage));
        }
        check(native::rd_kafka_error_code(native::rd_kafka_TopicDescription_error(*described)))?;
        let id = native::rd_kafka_TopicDescription_topic_id(*described);
        if id.is_null() {
            return Ok([0; 16]);
        }
        let halves = [
            native::rd_kafka_Uuid_most_significant_bits(id),
            native::rd_kafka_Uuid_least_significant_bits(id),
        ];
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&halves[0].to_be_bytes());
        bytes[8..].copy_from_slice(&halves[1].to_be_bytes());
        Ok(bytes)
    }
}

fn check(code: RDKafkaRespErr) -> Result<(), KafkaError> {
    match code {
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(()),
        code => Err(failure(code.into())),
    }
}

fn failure(code: RDKafkaErrorCode) -> KafkaError {
    KafkaError::MetadataFetch(code)
}

/// An object of librdkafka, destroyed when it is dropped.
struct OwnedPointer<T> {
    pointer: NonNull<T>,
    destroy: unsafe extern "C" fn(*mut T),
}

impl OwnedPointer<native::rd_kafka_queue_t> {
    fn queue(client: &Client<impl ClientContext>) -> Self {
        #[expect(unsafe_code, reason = "the client is alive")]
        let queue = unsafe { native::rd_kafka_queue_new(client.native_ptr()) };
        Self::new(queue, native::rd_kafka_queue_destroy)
    }
}

impl OwnedPointer<native::rd_kafka_AdminOptions_t> {
    fn options(client: &Client<impl ClientContext>, wait_ms: i32) -> Result<Self, KafkaError> {
        let operation = native::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
        let mut reason: [c_char; 256] = [0; 256];
        #[expect(unsafe_code, reason = "the client is alive, and the text fits its length")]
        let (options, set) = unsafe {
            let options = native::rd_kafka_AdminOptions_new(client.native_ptr(), operation);
            let set = native::rd_kafka_AdminOptions_set_request_timeout(
                options,
                wait_ms,
                reason.as_mut_ptr(),
                reason.len(),
            );
            (options, set)
        };
        let options = Self::new(options, native::rd_kafka_AdminOptions_destroy);
        check(set).map(|()| options)
    }
}

impl OwnedPointer<native::rd_kafka_TopicCollection_t> {
    fn topics(name: &CStr) -> Self {
        let mut names = [name.as_ptr()];
        #[expect(unsafe_code, reason = "the names are copied")]
        let topics =
            unsafe { native::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len()) };
        Self::new(topics, native::rd_kafka_TopicCollection_destroy)
    }
}

impl<T> OwnedPointer<T> {
    fn new(pointer: *mut T, destroy: unsafe extern "C" fn(*mut T)) -> Self {
        let pointer = NonNull::new(pointer).expect("librdkafka aborts if it is out of memory");
        Self { pointer, destroy }
    }
}

impl<T> Drop for OwnedPointer<T> {
    fn drop(&mut self) {
        #[expect(unsafe_code, reason = "it is destroyed once, by the function that belongs to its type")]
        unsafe {
            (self.destroy)(self.pointer.as_ptr());
        }
    }
}
