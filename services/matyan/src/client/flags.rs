//! Flags that all client commands share.

use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct ClientFlags {
    /// URL of the query side of a server
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
