//! What the process tells about itself: `tracing`, written to standard error as text or JSON.
//! Standard output is left to what a person asked for (the banner, answers of commands).

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

use crate::settings::{LogFormat, Settings};

/// Libraries that tell at our level what is news to their authors alone. Named in a filter they speak.
const TALKATIVE: &str = "fjall=warn,lsm_tree=warn,h2=warn,hyper=warn";

/// Starts it for the whole process; called once, first of all.
pub(crate) fn start(settings: &Settings) {
    let subscriber =
        tracing_subscriber::fmt().with_env_filter(filter(&settings.log_level)).with_writer(io::stderr);
    match settings.log_format {
        LogFormat::Text => subscriber.with_ansi(io::stderr().is_terminal()).init(),
        // Fields beside the message, so that request, run and connection ids can be searched for.
        LogFormat::Json => subscriber.json().flatten_event(true).init(),
    }
}

/// The more exact directive wins.
fn filter(log_level: &str) -> EnvFilter {
    EnvFilter::new(format!("{TALKATIVE},{log_level}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(log_level: &str, expected: &[&str]) {
        let filter = filter(log_level).to_string();
        for directive in expected {
            assert!(filter.split(',').any(|one| one == *directive), "{filter} lacks {directive}");
        }
    }

    #[test]
    fn libraries_are_quiet_until_named() {
        check("info", &["info", "fjall=warn", "h2=warn"]);
        check("debug,fjall=trace", &["debug", "fjall=trace", "lsm_tree=warn"]);
    }
}
