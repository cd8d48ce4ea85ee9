//! Flags that client commands share.

use clap::Args;

/// Flags of every command.
#[derive(Debug, Args)]
pub(crate) struct ConnectionFlags {
    /// URL of the query side of a server; a path /p/NAME at its end names a project
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "MATYAN_BACKEND_URL",
        default_value = "http://127.0.0.1:53800"
    )]
    pub(super) server: String,
    /// Print JSON, one object per line
    #[arg(long, global = true)]
    pub(super) json: bool,
}

/// Flags of commands that work on a project.
#[derive(Debug, Args)]
pub(crate) struct ClientFlags {
    #[command(flatten)]
    pub(super) connection: ConnectionFlags,
    /// Project to work on, by the name that `matyan projects list` shows; by default, the default project
    #[arg(long, global = true, value_name = "NAME", env = "MATYAN_PROJECT")]
    pub(super) project: Option<String>,
}
