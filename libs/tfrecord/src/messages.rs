//! The parts of TensorBoard's protobuf messages that are read. Texts that a writer chooses are bytes, because a
//! text that is not UTF-8 would make the whole event unreadable.

use std::collections::HashMap;

use crate::{Histogram, TensorProto};

#[derive(Clone, PartialEq, prost::Message)]
pub struct Event {
    /// Seconds since the Unix epoch.
    #[prost(double, tag = "1")]
    pub wall_time: f64,
    #[prost(int64, tag = "2")]
    pub step: i64,
    #[prost(message, optional, tag = "5")]
    pub summary: Option<Summary>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Summary {
    #[prost(message, repeated, tag = "1")]
    pub values: Vec<SummaryValue>,
}

/// One value of a tag.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SummaryValue {
    #[prost(bytes = "vec", tag = "1")]
    pub tag: Vec<u8>,
    #[prost(float, optional, tag = "2")]
    pub number: Option<f32>,
    #[prost(message, optional, tag = "4")]
    pub image: Option<Image>,
    #[prost(message, optional, tag = "5")]
    pub histogram: Option<Histogram>,
    #[prost(message, optional, tag = "6")]
    pub audio: Option<Audio>,
    /// The name of the tag in files of old versions.
    #[prost(bytes = "vec", tag = "7")]
    pub node_name: Vec<u8>,
    #[prost(message, optional, tag = "8")]
    pub tensor: Option<TensorProto>,
    #[prost(message, optional, tag = "9")]
    pub metadata: Option<Metadata>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Metadata {
    #[prost(message, optional, tag = "1")]
    pub plugin: Option<PluginData>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct PluginData {
    #[prost(bytes = "vec", tag = "1")]
    pub name: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub content: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Image {
    #[prost(int32, tag = "1")]
    pub height: i32,
    #[prost(int32, tag = "2")]
    pub width: i32,
    #[prost(bytes = "vec", tag = "4")]
    pub content: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Audio {
    #[prost(float, tag = "1")]
    pub sample_rate: f32,
    #[prost(bytes = "vec", tag = "4")]
    pub content: Vec<u8>,
}

/// The content of the plugin of hyperparameters.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Hparams {
    #[prost(message, optional, tag = "3")]
    pub session_start: Option<SessionStart>,
    #[prost(message, optional, tag = "4")]
    pub session_end: Option<SessionEnd>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct SessionStart {
    #[prost(map = "string, message", tag = "1")]
    pub hparams: HashMap<String, prost_types::Value>,
    /// Seconds since the Unix epoch.
    #[prost(double, tag = "5")]
    pub start_time: f64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct SessionEnd {
    /// 1: success, 2: failure, 3: running.
    #[prost(int32, tag = "1")]
    pub status: i32,
}
