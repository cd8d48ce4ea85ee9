//! Flags that client commands share.

use std::{convert::Infallible, path::PathBuf};

use clap::Args;

use crate::{endpoint::DEFAULT_SERVER, settings::Secret};

/// Flags of every command.
#[derive(Debug, Args)]
pub(crate) struct ConnectionFlags {
    /// URL of the query side of a server; a path /p/NAME at its end names a project
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "MATYAN_BACKEND_URL",
        default_value = DEFAULT_SERVER
    )]
    pub(super) server: String,
    /// File with the token of the caller, for a server with access control; by default, the variable MATYAN_TOKEN
    /// contains the token, or else `matyan login` has kept one
    #[arg(long, global = true, value_name = "FILE")]
    pub(super) token_file: Option<PathBuf>,
    /// Token of the caller. Hidden, because other users of a machine can read its command lines
    #[arg(long, global = true, env = "MATYAN_TOKEN", hide = true, hide_env_values = true, value_parser = secret)]
    pub(super) token: Option<Secret>,
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

/// Accepts any text as a secret: an error would print it.
fn secret(text: &str) -> Result<Secret, Infallible> {
    Ok(Secret::new(text.trim()))
}
