//! `matyan access check`: shows what a token may do that someone has found in a script, or is about to use.

use matyan_access::AccessToken;
use matyan_proto::access::v1::{GetCallerRequest, access_service_client::AccessServiceClient};
use serde_json::json;
use tonic::Code;

use super::show_caller;
use crate::client::{Error, client, flags::ClientFlags, output::Output};

const NO_TOKEN: &str = "this contains no token: a token begins with mtk_, and must be copied completely";

/// Shows the principal of a token. Its text is not an argument: other users of a machine can read command lines.
pub(super) async fn run(client: &ClientFlags, out: &mut Output) -> Result<(), Error> {
    let text = client.connection.token_text()?;
    // The text is not repeated: it may be a token with a mistake.
    let token = AccessToken::find(&text).ok_or_else(|| Error::Message(NO_TOKEN.to_owned()))?;
    let id = token.digest().id();
    let mut access = client!(AccessServiceClient, client.connection.connect_with(&token).await?);
    match access.get_caller(GetCallerRequest {}).await {
        Ok(caller) => show_caller(&caller.into_inner(), out),
        Err(status) if status.code() == Code::Unauthenticated => {
            if out.json {
                out.object(&json!({"token_id": id, "valid": false}))?;
            }
            Err(Error::Message(format!(
                "the token {id} is not valid here: it is unknown, expired or revoked"
            )))
        }
        Err(status) => Err(status.into()),
    }
}
