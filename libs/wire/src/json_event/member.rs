//! The names of the members.

/// Declares the members of all message types: an enum, the names, and the lookup by name.
macro_rules! members {
    ($($variant:ident $name:literal),+ $(,)?) => {
        /// A member of a message.
        #[derive(Clone, Copy, Debug)]
        pub(crate) enum Member { $($variant),+ }

        impl Member {
            pub(crate) const COUNT: usize = [$($name),+].len();

            pub(crate) fn name(self) -> &'static str {
                match self { $(Member::$variant => $name),+ }
            }

            pub(crate) fn from_name(name: &str) -> Option<Self> {
                match name { $($name => Some(Member::$variant),)+ _ => None }
            }
        }
    };
}

members! {
    Type "type", Name "name", Value "value", Step "step", Epoch "epoch", Context "context", Dtype "dtype",
    ClientDatetime "client_datetime", ForceResume "force_resume",
    ParentRunId "parent_run_id", ParentStep "parent_step", Description "description", Archived "archived",
    Experiment "experiment", TagName "tag_name", Line "line", Message "message", Level "level",
    Timestamp "timestamp", LoggerInfo "logger_info", ExtraArgs "extra_args", S3Key "s3_key",
    ArtifactPath "artifact_path", ContentType "content_type", Outcome "outcome",
    Client "client",
    // Only servers write the following members.
    CreatedUs "created_us", EditId "edit_id", Objects "objects", NewName "new_name",
    NewContext "new_context", Start "start", Stop "stop",
}
