//! Signing in and out, for `matyan-client`.

use std::{path::PathBuf, time::Duration};

use matyan_sdk::{
    http::Timeouts,
    kept_tokens_path,
    reading::{AskedToken, BackendClient, BackendOptions, LoginError, LoginState, end_kept_tokens},
};
use pyo3::{
    exceptions::{PyOSError, PyValueError},
    prelude::*,
};

use crate::{errors, interruption::interrupted};

const NO_FOLDER: &str = "there is no folder for the file of tokens: set HOME or XDG_CONFIG_HOME";

/// The place of a forgotten token, whether the server refuses it from now on, and why that is not known.
type Forgotten = (String, bool, Option<String>);

fn options() -> BackendOptions {
    let timeouts = Timeouts { request: Duration::from_secs(30), ..Timeouts::default() };
    BackendOptions { timeouts, interrupted, runtime: matyan_sdk::io_runtime }
}

fn client(url: &str) -> PyResult<BackendClient> {
    BackendClient::new(url, options()).map_err(errors::http)
}

fn file() -> PyResult<PathBuf> {
    kept_tokens_path().ok_or_else(|| PyOSError::new_err(NO_FOLDER))
}

fn exception(error: LoginError) -> PyErr {
    match error {
        LoginError::Server(error) => errors::http(error),
        LoginError::File(error) => PyOSError::new_err(error.to_string()),
        LoginError::Role(_) | LoginError::NoToken => PyValueError::new_err(error.to_string()),
    }
}

/// Asks for a token. Returns it with its code, the seconds until the code expires, and the seconds between two questions.
#[pyfunction]
pub(crate) fn begin_login(
    py: Python<'_>,
    url: &str,
    label: String,
    project: Option<String>,
    role: Option<String>,
    days: u32,
) -> PyResult<(String, String, u64, u64)> {
    let client = client(url)?;
    let lifetime = Duration::from_hours(24).saturating_mul(days);
    let asked = AskedToken { label, project, role, lifetime };
    let begun = py.detach(|| client.begin_login(asked)).map_err(exception)?;
    Ok((begun.token, begun.code, begun.lifetime_s, begun.interval_s))
}

/// Returns whether someone has allowed a token; None: nobody has answered yet.
#[pyfunction]
pub(crate) fn is_login_allowed(py: Python<'_>, url: &str, token: &str) -> PyResult<Option<bool>> {
    let client = client(url)?;
    let state = py.detach(|| client.login_state(token)).map_err(errors::http)?;
    Ok(match state {
        LoginState::Pending => None,
        LoginState::Allowed => Some(true),
        LoginState::Ended => Some(false),
    })
}

/// Keeps a token that the server knows. Returns its principal, the URL that it is for, and the file.
#[pyfunction]
pub(crate) fn keep_login(py: Python<'_>, url: &str, token: &str) -> PyResult<(String, String, PathBuf)> {
    let client = client(url)?;
    let file = file()?;
    let kept = py.detach(|| client.keep_login(token, &file)).map_err(exception)?;
    Ok((kept.principal, kept.place, file))
}

/// Forgets the tokens of a server, or of all servers.
#[pyfunction]
#[pyo3(signature = (url, force))]
pub(crate) fn end_logins(py: Python<'_>, url: Option<&str>, force: bool) -> PyResult<Vec<Forgotten>> {
    let file = file()?;
    let ended = py.detach(|| end_kept_tokens(url, &file, force, options())).map_err(exception)?;
    let forgotten = ended.into_iter().map(|ended| match ended.revoked {
        Ok(is_revoked) => (ended.place, is_revoked, None),
        Err(reason) => (ended.place, false, Some(reason)),
    });
    Ok(forgotten.collect())
}
