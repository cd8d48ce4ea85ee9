//! The whole system over Kafka: scenes on a real broker, and an admin client for it.

pub mod admin;
pub mod scene;
