//! The page on which a person types the code of a program, sees what the program asks for, and allows or
//! refuses it. The code is typed, and never part of a link: anyone who sends a link could make its reader
//! sign a foreign program in.

use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use http::{Request, StatusCode};
use matyan_access::{Role, TokenDigest};
use matyan_proto::access::v1::{AnswerLoginRequest, AskedLogin, FindLoginRequest};

use super::page::{CODE, SIGN_IN, escaped, parameter_value, redirect, with_code};
use super::{Refusal, SignIn, parameter, read_form};
use crate::access_reports::SignedIn;
use crate::scope::Scope;
use crate::session_cookie::read_session;

const DAY: Duration = Duration::from_hours(24);

/// Values of the buttons.
const ALLOW: &str = "allow";
const REFUSE: &str = "refuse";

const WARNING: &str = "Type only a code that you see in a program of your own: a program that someone else has started could \
                       do whatever you may do.";
const REFUSED: &str = "The program gets no token. You can close this page.";

impl SignIn<'_> {
    /// The empty form.
    pub(super) async fn code_form(&self, request: &Request<()>) -> Response {
        match self.session_of_person(request).await {
            Some((_, principal)) => self.code_page(StatusCode::OK, &principal, ""),
            None => self.to_sign_in(),
        }
    }

    /// Shows what the program with a code asks for, or answers it.
    pub(super) async fn type_code(&self, request: &Request<()>, body: Body) -> Response {
        let form = read_form(body).await;
        let Some((session, principal)) = self.session_of_person(request).await else {
            return self.to_sign_in();
        };
        let answered = match form {
            Ok(form) => {
                let code = parameter(&form, "code");
                match parameter(&form, "answer").as_str() {
                    "" => self.show_login(session, code).await,
                    answer => self.answer_login(session, code, answer == ALLOW).await,
                }
            }
            Err(refusal) => Err(refusal),
        };
        answered
            .unwrap_or_else(|Refusal { status, message, .. }| self.code_page(status, &principal, &message))
    }

    async fn show_login(&self, session: TokenDigest, code: String) -> Result<Response, Refusal> {
        let find = FindLoginRequest { session_digest: session.0.to_vec().into(), code: code.clone() };
        let mut backend = self.services.backend().sign_in();
        let found = Box::pin(backend.find_login(find)).await?.into_inner();
        let content = question(&found.login.unwrap_or_default(), &self.place.path(CODE), &code);
        Ok(self.place.code_page(StatusCode::OK, &content))
    }

    async fn answer_login(
        &self,
        session: TokenDigest,
        code: String,
        allowed: bool,
    ) -> Result<Response, Refusal> {
        let answer = AnswerLoginRequest { session_digest: session.0.to_vec().into(), code, allowed };
        let mut backend = self.services.backend().sign_in();
        let answered = Box::pin(backend.answer_login(answer)).await?.into_inner();
        let login = answered.login.unwrap_or_default();
        if !allowed {
            return Ok(self.place.code_page(StatusCode::OK, &paragraph(REFUSED)));
        }
        let done = format!("The program is signed in as {}. You can close this page.", login.principal);
        let mut response = self.place.code_page(StatusCode::OK, &paragraph(&done));
        // The entry of the audit log has the id of the token.
        if let Ok(token) = <[u8; 32]>::try_from(&answered.token_digest[..]) {
            let signed_in = SignedIn { principal: login.principal, session: TokenDigest(token) };
            response.extensions_mut().insert(signed_in);
        }
        Ok(response)
    }

    /// The session of the browser, and its principal. A token in a header is not a session.
    async fn session_of_person(&self, request: &Request<()>) -> Option<(TokenDigest, String)> {
        let session = read_session(request, self.place.base_path())?.digest();
        let caller = Scope::current().signed_in().await?;
        Some((session, caller.name().to_owned()))
    }

    /// Sends a browser to the page for signing in, and back.
    fn to_sign_in(&self) -> Response {
        let next = parameter_value(&self.place.path(CODE));
        redirect(&format!("{}?next={next}", self.place.path(SIGN_IN)), &[])
    }

    fn code_page(&self, status: StatusCode, principal: &str, message: &str) -> Response {
        let message = match message {
            "" => String::new(),
            message => format!("<p id=\"problem\" role=\"alert\">{}</p>", with_code(message)),
        };
        let content = format!(
            "<form method=\"post\" action=\"{}\"><label for=\"code\">Code that the program shows</label>\
             <input class=\"code\" id=\"code\" name=\"code\" placeholder=\"XXXX-XXXX\" maxlength=\"32\" \
             autocomplete=\"off\" autocapitalize=\"characters\" spellcheck=\"false\" required autofocus>{message}\
             <button>Continue</button></form>\
             <p class=\"help\">You are signed in as <b>{}</b>. {}</p>",
            escaped(&self.place.path(CODE)),
            escaped(principal),
            escaped(WARNING)
        );
        self.place.code_page(status, &content)
    }
}

/// The request of a program, with buttons for the answer.
fn question(login: &AskedLogin, action: &str, code: &str) -> String {
    let role = Role::from_proto(login.role()).map_or("all of your roles", Role::name);
    let project = match login.project.as_deref() {
        None => "all of your projects",
        Some("") => "the default project",
        Some(name) => name,
    };
    let days = days_text(login.lifetime_s);
    let rows = [
        ("Program", known(&login.label)),
        ("Address", known(&login.address)),
        ("Projects", project),
        ("Role", role),
        ("Valid for", days.as_str()),
    ];
    let rows = rows.into_iter().map(|(name, value)| format!("<dt>{name}</dt><dd>{}</dd>", escaped(value)));
    let rows: String = rows.collect();
    format!(
        "<p>A program asks for a token, with which it acts as <b>{}</b>:</p><dl>{rows}</dl>\
         <form method=\"post\" action=\"{}\"><input type=\"hidden\" name=\"code\" value=\"{}\">\
         <button name=\"answer\" value=\"{ALLOW}\">Allow</button>\
         <button class=\"refuse\" name=\"answer\" value=\"{REFUSE}\">Refuse</button></form>\
         <p class=\"help\">Allow it only if you have just started this program, and the address belongs to its machine, or to \
         a proxy in front of this server.</p>",
        escaped(&login.principal),
        escaped(action),
        escaped(code)
    )
}

fn known(text: &str) -> &str {
    if text.is_empty() { "unknown" } else { text }
}

fn days_text(lifetime_s: u64) -> String {
    match lifetime_s.div_ceil(DAY.as_secs()) {
        1 => "1 day".to_owned(),
        days => format!("{days} days"),
    }
}

fn paragraph(text: &str) -> String {
    format!("<p id=\"notice\" role=\"status\">{}</p>", escaped(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rule_121_the_page_shows_what_a_program_asks_for() {
        let login = AskedLogin {
            principal: "ana".to_owned(),
            label: "<b>laptop</b>".to_owned(),
            address: "10.0.0.7".to_owned(),
            project: Some("speech".to_owned()),
            role: matyan_proto::access::v1::Role::Writer.into(),
            lifetime_s: 30 * DAY.as_secs(),
        };
        let page = question(&login, "/sign-in/code", "BCDF-GHJK");
        for shown in ["&lt;b&gt;laptop", "10.0.0.7", "speech", "writer", "30 days", "<b>ana</b>", "BCDF-GHJK"]
        {
            assert!(page.contains(shown), "{shown}: {page}");
        }
        assert!(!page.contains("<b>laptop"), "{page}");
        let all = AskedLogin { lifetime_s: DAY.as_secs(), ..AskedLogin::default() };
        let page = question(&all, "/sign-in/code", "BCDF-GHJK");
        for shown in ["all of your projects", "all of your roles", "1 day<", "unknown"] {
            assert!(page.contains(shown), "{shown}: {page}");
        }
    }
}
