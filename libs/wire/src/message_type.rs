//! The types of messages with the names that Matyan 0.3 gave them. The names occur in messages of
//! clients, in envelopes, and as labels of metrics.

use matyan_proto::ingest::v1::event::Kind;

/// The type of one item: a point, or an event of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MessageType {
    /// A point of a metric; all others are events.
    LogMetric,
    /// Creates or resumes the run.
    CreateRun,
    /// Finishes the run.
    FinishRun,
    /// Sets name, description, experiment, or the archive flag.
    SetRunProperty,
    /// Adds a tag.
    AddTag,
    /// Removes a tag.
    RemoveTag,
    /// Merges params.
    LogHparams,
    /// Logs an object of a sequence.
    LogCustomObject,
    /// Logs a line of the terminal.
    LogTerminalLine,
    /// Logs a record of Python's logging.
    LogRecord,
    /// Registers an artifact.
    BlobRef,
    /// Renames a series, or deletes steps of it. Only servers may send it.
    EditSeries,
    /// Deletes the run. Only servers may send it. Must be the last variant.
    DeleteRun,
}

// The compiler does not notice a type that is missing from `ALL`, by which counts are indexed.
const _: () = assert!(MessageType::DeleteRun as usize + 1 == MessageType::ALL.len());

/// Number of items of each type, indexed by `MessageType as usize`.
pub type MessageCounts = [u64; MessageType::ALL.len()];

impl MessageType {
    /// All types, in the order of `MessageCounts`.
    pub const ALL: [Self; 13] = [
        Self::LogMetric,
        Self::CreateRun,
        Self::FinishRun,
        Self::SetRunProperty,
        Self::AddTag,
        Self::RemoveTag,
        Self::LogHparams,
        Self::LogCustomObject,
        Self::LogTerminalLine,
        Self::LogRecord,
        Self::BlobRef,
        Self::EditSeries,
        Self::DeleteRun,
    ];

    /// The names of all types, in the same order.
    pub const NAMES: [&'static str; Self::ALL.len()] = {
        let mut names = [""; Self::ALL.len()];
        let mut at = 0;
        while at < names.len() {
            names[at] = Self::ALL[at].name();
            at += 1;
        }
        names
    };

    /// Returns the name on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::LogMetric => "log_metric",
            Self::CreateRun => "create_run",
            Self::FinishRun => "finish_run",
            Self::SetRunProperty => "set_run_property",
            Self::AddTag => "add_tag",
            Self::RemoveTag => "remove_tag",
            Self::LogHparams => "log_hparams",
            Self::LogCustomObject => "log_custom_object",
            Self::LogTerminalLine => "log_terminal_line",
            Self::LogRecord => "log_record",
            Self::BlobRef => "blob_ref",
            Self::EditSeries => "edit_series",
            Self::DeleteRun => "delete_run",
        }
    }

    /// Returns the type with the given name.
    ///
    /// ```
    /// # use matyan_wire::MessageType;
    /// assert_eq!(MessageType::from_name("add_tag"), Some(MessageType::AddTag));
    /// assert_eq!(MessageType::from_name("no_such_type"), None);
    /// ```
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|message_type| message_type.name() == name)
    }

    /// Returns the type of an event.
    pub fn of_event(kind: &Kind) -> Self {
        match kind {
            Kind::CreateRun(_) => Self::CreateRun,
            Kind::FinishRun(_) => Self::FinishRun,
            Kind::SetRunProperty(_) => Self::SetRunProperty,
            Kind::AddTag(_) => Self::AddTag,
            Kind::RemoveTag(_) => Self::RemoveTag,
            Kind::LogParams(_) => Self::LogHparams,
            Kind::LogObject(_) => Self::LogCustomObject,
            Kind::LogTerminalLine(_) => Self::LogTerminalLine,
            Kind::LogRecord(_) => Self::LogRecord,
            Kind::BlobRef(_) => Self::BlobRef,
            Kind::EditSeries(_) => Self::EditSeries,
            Kind::DeleteRun(_) => Self::DeleteRun,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_has_its_place_and_its_name() {
        for (at, message_type) in MessageType::ALL.into_iter().enumerate() {
            assert_eq!(message_type as usize, at);
            assert_eq!(MessageType::from_name(message_type.name()), Some(message_type));
        }
    }
}
