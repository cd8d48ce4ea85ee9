//! Reading of a secret: from a terminal, which does not show it, or from a pipe.

use std::io::{self, BufRead as _, IsTerminal as _, Read as _};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::plain_text::plain_text;

/// More than anything that contains a secret.
const MAX_SECRET_BYTES: u64 = 64 << 10;

/// Reads a line of a terminal, or all of a pipe.
pub(super) fn read_secret(prompt: &str) -> io::Result<String> {
    let stdin = io::stdin();
    let mut text = String::new();
    if !stdin.is_terminal() {
        stdin.lock().take(MAX_SECRET_BYTES).read_to_string(&mut text)?;
        return Ok(text);
    }
    // Not on standard output, which has the result of the command.
    eprint!("{}", plain_text(prompt));
    let hidden = HiddenInput::begin()?;
    let read = stdin.lock().take(MAX_SECRET_BYTES).read_line(&mut text);
    drop(hidden);
    read?;
    Ok(text)
}

/// A terminal that does not show what is typed, until it is dropped.
struct HiddenInput {
    before: Termios,
}

impl HiddenInput {
    fn begin() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut hidden = before.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        // The end of the line is shown.
        hidden.local_modes.insert(LocalModes::ECHONL);
        tcsetattr(io::stdin(), OptionalActions::Flush, &hidden)?;
        Ok(Self { before })
    }
}

impl Drop for HiddenInput {
    fn drop(&mut self) {
        // If the terminal is gone, there is nothing to restore.
        tcsetattr(io::stdin(), OptionalActions::Flush, &self.before).ok();
    }
}
