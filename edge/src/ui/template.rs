//! The index page: text with `{{ name }}` placeholders for four settings.
//! Values appear inside attributes and scripts alike, so a character that could end either is
//! rejected, and nothing is escaped.

use super::{UiError, UiSettings};

/// The page with its variables replaced.
pub(super) fn render(template: &str, settings: &UiSettings) -> Result<String, UiError> {
    let variables = [
        ("base_path", &settings.base_path),
        ("api_base_path", &settings.api_base_path),
        ("api_host_base", &settings.api_host_base),
        ("api_auth_token", &settings.api_auth_token),
    ];
    if let Some((name, _)) = variables.iter().find(|(_, value)| !value.chars().all(is_harmless)) {
        return Err(UiError::BadValue(name));
    }
    let mut page = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, tail)) = rest.split_once("{{") {
        // Braces that are never closed are ordinary text.
        let Some((name, after)) = tail.split_once("}}") else { break };
        let name = name.trim();
        let Some((_, value)) = variables.iter().find(|(known, _)| *known == name) else {
            return Err(UiError::UnknownVariable(name.to_owned()));
        };
        page.push_str(before);
        page.push_str(value);
        rest = after;
    }
    page.push_str(rest);
    Ok(page)
}

fn is_harmless(character: char) -> bool {
    character.is_ascii_alphanumeric() || "-._~:/@+=%".contains(character)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> UiSettings {
        UiSettings {
            base_path: "/ui".into(),
            api_base_path: "/api/v1".into(),
            api_host_base: "https://api.example:8".into(),
            api_auth_token: "s.3_c-r~et=".into(),
            ..Default::default()
        }
    }

    #[test]
    fn variables_are_replaced_and_other_text_is_kept() {
        let check = |template: &str, expected: &str| {
            assert_eq!(render(template, &settings()).unwrap(), expected, "{template}");
        };
        check("", "");
        check("<a href=\"{{ base_path }}/x\">{}", "<a href=\"/ui/x\">{}");
        check("{{base_path}}{{ api_base_path }}", "/ui/api/v1");
        check("{{ api_host_base }} {{ api_auth_token }}", "https://api.example:8 s.3_c-r~et=");
        check("if(a){{b()", "if(a){{b()");
    }

    #[test]
    fn bad_variables_and_values_are_rejected() {
        let unknown = render("{{ secret }}", &settings()).unwrap_err().to_string();
        assert!(unknown.contains("`secret`"), "{unknown}");
        for value in ["\"", "'", "<", "\\", "&", " ", "ü"] {
            let settings = UiSettings { api_auth_token: value.into(), ..settings() };
            let bad = render("", &settings).unwrap_err().to_string();
            assert!(bad.contains("api_auth_token"), "{bad}");
        }
    }
}
