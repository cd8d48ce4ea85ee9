//! Whether a server fits its client.
//!
//! A server accepts what clients of all earlier versions send, so only a server that is older than
//! its client may not know a message. Patch releases add no messages.

/// Version of the product, which all programs and packages of a release share.
pub const OWN: &str = env!("CARGO_PKG_VERSION");

/// Returns advice for the user of a client of this version if the server is older.
pub fn advice(server: &str) -> Option<String> {
    advice_between(server, OWN)
}

fn advice_between(server: &str, client: &str) -> Option<String> {
    let is_older = release(server)? < release(client)?;
    is_older.then(|| {
        format!(
            "the server is Matyan {server}, older than this client, {client}, and may refuse what it does not know: \
             upgrade the server, or install version {server} of the client"
        )
    })
}

/// The first two numbers of a version, or `None` for a text that is not a version.
fn release(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.split('.').map(|number| number.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_server_of_an_older_release_needs_advice() {
        for (server, client, expected) in [
            ("0.3.9", "0.4.0", true),
            ("0.9.0", "0.10.0", true),
            ("0.10.0", "1.0.0", true),
            ("0.4.0", "0.4.0", false),
            ("0.4.0", "0.4.2", false),
            ("0.4.0-rc.1", "0.4.0", false),
            ("0.5.0", "0.4.0", false),
            ("1.0.0", "0.4.0", false),
            ("", "0.4.0", false),
            ("4", "0.4.0", false),
            ("unknown", "0.4.0", false),
        ] {
            assert_eq!(advice_between(server, client).is_some(), expected, "{server}, {client}");
        }
    }

    #[test]
    fn advice_names_both_versions() {
        let advice = advice_between("0.3.9", "0.4.0").unwrap();
        assert!(advice.contains("0.3.9") && advice.contains("0.4.0"), "{advice}");
    }

    #[test]
    fn the_own_version_fits() {
        assert_eq!(advice(OWN), None);
    }
}
