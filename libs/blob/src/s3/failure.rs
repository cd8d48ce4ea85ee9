//! What a failure of S3 asks of an operator: it names errors by codes, except where an answer has no body.

use std::{error::Error as StdError, iter};

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::{
    config::http::HttpResponse,
    error::{ProvideErrorMetadata, SdkError},
};

use super::Settings;
use crate::Error;

/// What S3 calls it that a bucket is not there.
const NO_BUCKET: &str = "NoSuchBucket";

/// Tells the region of a bucket that is asked for in another.
const REGION_HEADER: &str = "x-amz-bucket-region";

/// Which bucket is meant, and where it should be.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) bucket: String,
    region: String,
}

/// What S3 said when it refused.
#[derive(Clone, Debug, Default)]
pub(super) struct Refusal {
    pub(super) status: u16,
    /// Empty in the answer to a HEAD.
    pub(super) code: String,
    pub(super) message: String,
    pub(super) region: Option<String>,
}

impl Place {
    pub(super) fn of(settings: &Settings) -> Self {
        Self { bucket: settings.bucket.clone(), region: settings.region.clone() }
    }

    pub(super) fn failure<E>(&self, doing: &str, error: SdkError<E, HttpResponse>) -> Error
    where
        E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
    {
        if let Some(refusal) = refusal(&error) {
            return self.refused(doing, &refusal);
        }
        if let Some(reason) = credentials_problem(&error) {
            return Error::Setup { reason };
        }
        Error::unavailable(format!("{doing} failed: {}", chain(&error)))
    }

    /// An error of one key in an answer about many, too.
    pub(super) fn refused(&self, doing: &str, refusal: &Refusal) -> Error {
        let advice = match (refusal.code.as_str(), refusal.status) {
            (NO_BUCKET, _) => return Error::NoBucket { what: "bucket", name: self.bucket.clone() },
            ("InvalidAccessKeyId", _) => "S3 does not know the access key: set S3_ACCESS_KEY".to_owned(),
            ("SignatureDoesNotMatch", _) => {
                "the secret key does not fit the access key: set S3_SECRET_KEY".to_owned()
            }
            ("ExpiredToken" | "InvalidToken" | "TokenRefreshRequired", _) => {
                "the credentials have expired: renew them".to_owned()
            }
            ("RequestTimeTooSkewed", _) => {
                "the clock of this machine and that of S3 differ: have both set by NTP".to_owned()
            }
            _ if refusal.region.as_ref().is_some_and(|region| *region != self.region) => {
                self.elsewhere(refusal)
            }
            (
                "AuthorizationHeaderMalformed"
                | "PermanentRedirect"
                | "IncorrectEndpoint"
                | "IllegalLocationConstraintException",
                _,
            )
            | (_, 301 | 307) => self.elsewhere(refusal),
            ("AccessDenied" | "AllAccessDisabled" | "AccountProblem", _) | (_, 401 | 403) => format!(
                "check the credentials, and that they may read, write, list and delete objects in `{}`",
                self.bucket
            ),
            _ => {
                return Error::unavailable(format!("{doing} failed: {}", refusal.said()));
            }
        };
        Error::Setup { reason: format!("{doing} is refused: {advice} ({})", refusal.said()) }
    }

    fn elsewhere(&self, refusal: &Refusal) -> String {
        let Self { bucket, region } = self;
        match &refusal.region {
            Some(real) => {
                format!(
                    "`{bucket}` is in {real}, not {region}: set S3_REGION={real}, and S3_ENDPOINT to match"
                )
            }
            None => format!(
                "`{bucket}` is not in {region}, or not to be reached so: check S3_REGION and S3_ENDPOINT"
            ),
        }
    }
}

impl Refusal {
    fn said(&self) -> String {
        let Self { status, code, message, .. } = self;
        let words =
            [if *status == 0 { String::new() } else { status.to_string() }, code.clone(), message.clone()];
        words.iter().filter(|word| !word.is_empty()).map(String::as_str).collect::<Vec<_>>().join(" ")
    }
}

/// `None` if there was no answer.
pub(super) fn refusal<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> Option<Refusal> {
    let SdkError::ServiceError(refused) = error else { return None };
    let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
    Some(Refusal {
        status: refused.raw().status().as_u16(),
        code: text(refused.err().code()),
        message: text(refused.err().message()),
        region: refused.raw().headers().get(REGION_HEADER).map(str::to_owned),
    })
}

fn reasons<'e>(error: &'e (dyn StdError + 'static)) -> impl Iterator<Item = &'e (dyn StdError + 'static)> {
    iter::successors(Some(error), |error| (*error).source())
}

/// What went wrong, and why, and why that.
fn chain(error: &(dyn StdError + 'static)) -> String {
    reasons(error).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// What an operator has to mend of the credentials that Amazon's tools look for.
fn credentials_problem(error: &(dyn StdError + 'static)) -> Option<String> {
    let error = reasons(error).find_map(|error| error.downcast_ref::<CredentialsError>())?;
    match error {
        CredentialsError::CredentialsNotLoaded(_) => Some(
            "no credentials of Amazon's are found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, \
             give the machine or container a role, or set S3_CREDENTIALS=keys"
                .to_owned(),
        ),
        CredentialsError::InvalidConfiguration(_) => Some(format!(
            "the credentials of Amazon's cannot be used ({}): mend them in ~/.aws or in AWS_…, where neither single \
             sign-on nor a credential_process is known here",
            chain(error)
        )),
        _ => None,
    }
}
