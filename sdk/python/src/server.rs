//! Tokens of servers with access control.

use matyan_sdk::{AccessToken, Config, is_sent_in_clear};
use pyo3::{
    exceptions::{PyUserWarning, PyValueError},
    prelude::*,
};

/// Sends a token to the server at a URL from now on. Without a token, sends the token in `MATYAN_TOKEN`, or
/// else the token that `matyan login` keeps for this server. Warns if others on the network can read it;
/// `matyan login` warns by itself.
#[pyfunction]
#[pyo3(signature = (url, token=None))]
pub(crate) fn use_token(py: Python<'_>, url: &str, token: Option<&str>) -> PyResult<()> {
    let given = self::token(token)?;
    let is_given = given.is_some();
    let Some(token) = given.or_else(|| Config::from_process().0.token) else { return Ok(()) };
    if is_sent_in_clear(url) {
        let message =
            c"the token is sent without TLS, and others on the network can read it: use an https:// URL";
        PyErr::warn(py, &py.get_type::<PyUserWarning>(), message, 2)?;
    }
    if is_given {
        token.use_for(url);
    } else {
        token.use_by_default_for(url);
    }
    Ok(())
}

/// The token in an argument.
pub(crate) fn token(text: Option<&str>) -> PyResult<Option<AccessToken>> {
    let Some(text) = text else { return Ok(None) };
    // The text is not repeated: it may be a token with a mistake.
    AccessToken::new(text).map(Some).ok_or_else(|| {
        PyValueError::new_err("`token`: expected a token of the server, which begins with mtk_")
    })
}
