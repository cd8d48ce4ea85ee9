//! The whole system over Kafka: scenes on a real broker, and what is asked of that one.

pub mod admin;
pub mod scene;
