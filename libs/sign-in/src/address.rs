//! Addresses of providers, and parameters of addresses.

use std::net::IpAddr;

use http::Uri;

/// Whether an address may be used: over https, or over http to this machine.
pub fn is_trustworthy(address: &str) -> bool {
    let Ok(uri) = address.parse::<Uri>() else { return false };
    match (uri.scheme_str(), uri.host()) {
        (Some("https"), Some(host)) => !host.is_empty(),
        (Some("http"), Some(host)) => is_of_this_machine(host),
        _ => false,
    }
}

fn is_of_this_machine(host: &str) -> bool {
    let address: Result<IpAddr, _> = host.trim_matches(['[', ']']).parse();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

/// An address with added parameters. It may have some already.
pub(crate) fn with_parameters(address: &str, parameters: &[(&str, &str)]) -> String {
    let separator = if address.contains('?') { '&' } else { '?' };
    format!("{address}{separator}{}", form(parameters))
}

/// Parameters as the body of a form.
pub(crate) fn form(parameters: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_encrypted_or_of_this_machine() {
        for good in
            ["https://id.example/realms/x", "http://127.0.0.1:5556/dex", "http://[::1]:1", "http://localhost"]
        {
            assert!(is_trustworthy(good), "{good}");
        }
        for bad in [
            "http://id.example",
            "http://127.0.0.1.evil.example",
            "ftp://id.example",
            "id.example",
            "",
            "https://",
        ] {
            assert!(!is_trustworthy(bad), "{bad}");
        }
    }

    #[test]
    fn parameters_follow_the_parameters_of_the_address() {
        let parameters = [("a", "x y"), ("b", "&=")];
        assert_eq!(with_parameters("https://h/p", &parameters), "https://h/p?a=x+y&b=%26%3D");
        assert_eq!(with_parameters("https://h/p?t=1", &parameters), "https://h/p?t=1&a=x+y&b=%26%3D");
    }
}
