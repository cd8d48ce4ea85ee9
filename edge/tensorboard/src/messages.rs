//! The parts of TensorBoard's protobuf messages that this crate reads. Texts that a writer chooses are bytes, because a
//! text that is not UTF-8 would make the whole event unreadable.

use std::collections::HashMap;

use matyan_tfrecord::{Histogram, TensorProto};

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Event {
    /// Seconds since the Unix epoch.
    #[prost(double, tag = "1")]
    pub(crate) wall_time: f64,
    #[prost(int64, tag = "2")]
    pub(crate) step: i64,
    #[prost(message, optional, tag = "5")]
    pub(crate) summary: Option<Summary>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Summary {
    #[prost(message, repeated, tag = "1")]
    pub(crate) values: Vec<SummaryValue>,
}

/// One value of a tag.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct SummaryValue {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) tag: Vec<u8>,
    #[prost(float, optional, tag = "2")]
    pub(crate) number: Option<f32>,
    #[prost(message, optional, tag = "4")]
    pub(crate) image: Option<Image>,
    #[prost(message, optional, tag = "5")]
    pub(crate) histogram: Option<Histogram>,
    #[prost(message, optional, tag = "6")]
    pub(crate) audio: Option<Audio>,
    /// The name of the tag in files of old versions.
    #[prost(bytes = "vec", tag = "7")]
    pub(crate) node_name: Vec<u8>,
    #[prost(message, optional, tag = "8")]
    pub(crate) tensor: Option<TensorProto>,
    #[prost(message, optional, tag = "9")]
    pub(crate) metadata: Option<Metadata>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Metadata {
    #[prost(message, optional, tag = "1")]
    pub(crate) plugin: Option<PluginData>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct PluginData {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) name: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) content: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Image {
    #[prost(int32, tag = "1")]
    pub(crate) height: i32,
    #[prost(int32, tag = "2")]
    pub(crate) width: i32,
    #[prost(bytes = "vec", tag = "4")]
    pub(crate) content: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Audio {
    #[prost(float, tag = "1")]
    pub(crate) sample_rate: f32,
    #[prost(bytes = "vec", tag = "4")]
    pub(crate) content: Vec<u8>,
}

/// The content of the plugin of hyperparameters.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Hparams {
    #[prost(message, optional, tag = "3")]
    pub(crate) session_start: Option<SessionStart>,
    #[prost(message, optional, tag = "4")]
    pub(crate) session_end: Option<SessionEnd>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct SessionStart {
    #[prost(map = "string, message", tag = "1")]
    pub(crate) hparams: HashMap<String, prost_types::Value>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct SessionEnd {
    /// 1: success, 2: failure, 3: running.
    #[prost(int32, tag = "1")]
    pub(crate) status: i32,
}
