//! Translation of S3 failures into advice for the operator. S3 identifies errors by code,
//! except in responses without a body.

use std::{error::Error as StdError, iter};

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::{
    config::http::HttpResponse,
    error::{ProvideErrorMetadata, SdkError},
};

use super::Settings;
use crate::Error;

/// Error code of S3 for a missing bucket.
const NO_BUCKET: &str = "NoSuchBucket";

/// Error codes that are about the name or the size of the blob, whatever the status is.
const OF_BLOB: [&str; 6] = [
    "KeyTooLongError",
    "EntityTooLarge",
    "InvalidURI",
    "MetadataTooLarge",
    // MinIO.
    "XMinioInvalidObjectName",
    "XMinioInvalidResourceName",
];

/// Error codes of a 400 that is not about the blob: the request was damaged or interrupted on its
/// way, or the bucket has no valid name.
const UNRELATED: [&str; 5] =
    ["RequestTimeout", "BadDigest", "IncompleteBody", "XAmzContentSHA256Mismatch", "InvalidBucketName"];

const WRITING: &str = "writing a blob";

/// Header with the region of a bucket that was requested in another one.
const REGION_HEADER: &str = "x-amz-bucket-region";

/// The configured bucket and region.
#[derive(Clone, Debug)]
pub(super) struct BucketLocation {
    pub(super) bucket: String,
    region: String,
}

/// An error response of S3.
#[derive(Clone, Debug, Default)]
pub(super) struct Refusal {
    pub(super) status: u16,
    /// Empty in the response to a HEAD.
    pub(super) code: String,
    pub(super) message: String,
    pub(super) region: Option<String>,
}

impl BucketLocation {
    pub(super) fn new(settings: &Settings) -> Self {
        Self { bucket: settings.bucket.clone(), region: settings.region.clone() }
    }

    pub(super) fn failure<E>(&self, doing: &str, error: SdkError<E, HttpResponse>) -> Error
    where
        E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
    {
        if let Some(refusal) = refusal(&error) {
            return self.refusal_error(doing, &refusal);
        }
        if let Some(reason) = credentials_problem(&error) {
            return Error::Setup { reason };
        }
        Error::unavailable(format!("{doing} failed: {}", chain_text(&error)))
    }

    /// Like `failure`, for the request that writes a blob: an error about this blob is final.
    pub(super) fn put_failure<E>(&self, error: SdkError<E, HttpResponse>) -> Error
    where
        E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
    {
        match refusal(&error) {
            Some(refusal) => self.put_refusal_error(&refusal),
            None => self.failure(WRITING, error),
        }
    }

    pub(super) fn put_refusal_error(&self, refusal: &Refusal) -> Error {
        match self.refusal_error(WRITING, refusal) {
            // Neither the credentials nor the bucket are at fault.
            Error::Unavailable { .. } if refusal.is_of_blob() => Error::Rejected { reason: refusal.text() },
            Error::Unavailable { reason, .. } if refusal.is_doubtful() => Error::doubtful(reason),
            other => other,
        }
    }

    /// Also used for the errors of single keys in the response to a bulk delete.
    pub(super) fn refusal_error(&self, doing: &str, refusal: &Refusal) -> Error {
        let advice = match (refusal.code.as_str(), refusal.status) {
            (NO_BUCKET, _) => return Error::NoBucket { what: "bucket", name: self.bucket.clone() },
            ("InvalidAccessKeyId", _) => "S3 does not know the access key: set S3_ACCESS_KEY".to_owned(),
            ("SignatureDoesNotMatch", _) => {
                "the secret key does not match the access key: set S3_SECRET_KEY".to_owned()
            }
            ("ExpiredToken" | "InvalidToken" | "TokenRefreshRequired", _) => {
                "the credentials have expired: renew them".to_owned()
            }
            ("RequestTimeTooSkewed", _) => {
                "the clocks of this machine and of S3 differ: synchronize both with NTP".to_owned()
            }
            _ if refusal.region.as_ref().is_some_and(|region| *region != self.region) => {
                self.wrong_region_advice(refusal)
            }
            (
                "AuthorizationHeaderMalformed"
                | "PermanentRedirect"
                | "IncorrectEndpoint"
                | "IllegalLocationConstraintException",
                _,
            )
            | (_, 301 | 307) => self.wrong_region_advice(refusal),
            ("AccessDenied" | "AllAccessDisabled" | "AccountProblem", _) | (_, 401 | 403) => format!(
                "check the credentials, and that they may read, write, list and delete objects in `{}`",
                self.bucket
            ),
            _ => {
                return Error::unavailable(format!("{doing} failed: {}", refusal.text()));
            }
        };
        Error::Setup { reason: format!("{doing} was refused: {advice} ({})", refusal.text()) }
    }

    fn wrong_region_advice(&self, refusal: &Refusal) -> String {
        let Self { bucket, region } = self;
        match &refusal.region {
            Some(real) => {
                format!(
                    "`{bucket}` is in {real}, not {region}: set S3_REGION={real}, and S3_ENDPOINT to match"
                )
            }
            None => format!(
                "`{bucket}` is not in {region}, or cannot be reached this way: check S3_REGION and S3_ENDPOINT"
            ),
        }
    }
}

impl Refusal {
    fn is_of_blob(&self) -> bool {
        matches!(self.status, 413 | 414) || OF_BLOB.contains(&self.code.as_str())
    }

    /// Whether the refusal may be about the blob. A whole bucket can be the reason, too: a bucket
    /// that requires encryption or has object lock, or a gateway that does not know a header.
    fn is_doubtful(&self) -> bool {
        matches!(self.status, 400 | 422) && !UNRELATED.contains(&self.code.as_str())
    }

    fn text(&self) -> String {
        let Self { status, code, message, .. } = self;
        let words =
            [if *status == 0 { String::new() } else { status.to_string() }, code.clone(), message.clone()];
        words.iter().filter(|word| !word.is_empty()).map(String::as_str).collect::<Vec<_>>().join(" ")
    }
}

/// Returns `None` if there was no response.
pub(super) fn refusal<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> Option<Refusal> {
    let refused = match error {
        SdkError::ServiceError(refused) => refused,
        // The body is not an S3 error.
        SdkError::ResponseError(refused) if !refused.raw().status().is_success() => {
            let status = refused.raw().status().as_u16();
            return Some(Refusal { status, ..Refusal::default() });
        }
        _ => return None,
    };
    Some(Refusal {
        status: refused.raw().status().as_u16(),
        code: refused.err().code().unwrap_or_default().to_owned(),
        message: refused.err().message().unwrap_or_default().to_owned(),
        region: refused.raw().headers().get(REGION_HEADER).map(str::to_owned),
    })
}

fn error_chain<'e>(
    error: &'e (dyn StdError + 'static),
) -> impl Iterator<Item = &'e (dyn StdError + 'static)> {
    iter::successors(Some(error), |error| (*error).source())
}

/// Joins the messages of an error and all of its causes.
fn chain_text(error: &(dyn StdError + 'static)) -> String {
    error_chain(error).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Returns the problem that an operator has to fix if the credentials could not be loaded.
fn credentials_problem(error: &(dyn StdError + 'static)) -> Option<String> {
    let error = error_chain(error).find_map(|error| error.downcast_ref::<CredentialsError>())?;
    match error {
        CredentialsError::CredentialsNotLoaded(_) => Some(
            "no Amazon credentials found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, \
             give the machine or container a role, or set S3_CREDENTIALS=keys"
                .to_owned(),
        ),
        CredentialsError::InvalidConfiguration(_) => Some(format!(
            "unusable Amazon credentials ({}): fix them in ~/.aws or in the AWS_ variables; single sign-on and \
             credential_process are not supported",
            chain_text(error)
        )),
        _ => None,
    }
}
