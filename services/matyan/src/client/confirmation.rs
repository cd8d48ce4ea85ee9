//! Confirmation on the terminal of what cannot be taken back: a deletion, or data that everyone may read.

use std::io::{self, BufRead as _, IsTerminal as _};

use super::{Error, output::Output};

/// Asks whether to delete something permanently. A script must pass --yes instead.
pub(super) fn confirm(what: &str, out: &mut Output) -> Result<(), Error> {
    ask(&format!("Permanently delete {what}?"), out)
}

/// Asks whether to delete something that can be brought back.
pub(super) fn confirm_reversible(what: &str, out: &mut Output) -> Result<(), Error> {
    ask(&format!("Move {what} to the bin?"), out)
}

/// Asks whether everyone may read something without a token.
pub(super) fn confirm_for_everyone(what: &str, out: &mut Output) -> Result<(), Error> {
    ask(&format!("Let everyone who can connect read {what}?"), out)
}

fn ask(question: &str, out: &mut Output) -> Result<(), Error> {
    if !io::stdin().is_terminal() {
        return Err(refused("pass --yes when there is no terminal"));
    }
    out.prompt(&format!("{question} [y/N] "))?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    if matches!(answer.trim(), "y" | "Y" | "yes") { Ok(()) } else { Err(refused("not confirmed")) }
}

fn refused(reason: &str) -> Error {
    Error::Message(format!("nothing was done: {reason}"))
}
