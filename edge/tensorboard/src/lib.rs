//! Event files of TensorBoard, followed as they grow, and translated onto the gRPC services.
//!
//! Each folder with event files is a run, as in TensorBoard: scalars are series, media and histograms are objects,
//! hyperparameters are params. All values are kept.
//!
//! The crate knows the services only through channels, and keeps nothing but positions, which the server stores. Each
//! point is stored once, however often a follower or a server is killed: the point is read again from the file until
//! it is durable, and its step makes a repetition harmless.

mod batch;
mod error;
mod file_part;
mod follower;
mod names;
mod object_files;
mod position;
mod run;
mod scan;
mod settings;

pub use error::FollowError;
pub use follower::{FollowNotice, FollowProgress, Follower};
pub use matyan_channels::{Channel, Channels};
pub use settings::FollowSettings;
