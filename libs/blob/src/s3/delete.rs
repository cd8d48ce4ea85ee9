//! Deletion of many blobs in one request. S3 responds with a success and lists each key that it
//! could not delete; a key that it does not mention counts as not deleted.

use std::collections::HashSet;

use aws_sdk_s3::{
    config::http::HttpRequest,
    types::{Delete, ObjectIdentifier},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use md5::{Digest, Md5};

use super::{client, connection::BucketConnection, failure::Refusal};
use crate::{BlobKey, Error};

const ACTION: &str = "deleting";

/// Returns each key that still exists, with the reason.
pub(super) async fn delete(bucket: &BucketConnection, keys: &[BlobKey]) -> Vec<(BlobKey, Error)> {
    let objects: Result<_, _> =
        keys.iter().map(|key| ObjectIdentifier::builder().key(key.as_str()).build()).collect();
    let delete = Delete::builder().set_objects(Some(objects.expect("every object has a key")));
    let request = bucket.client.delete_objects().bucket(&bucket.location.bucket);
    let request = request.delete(delete.build().expect("the list of objects is set"));
    let request =
        request.customize().config_override(client::without_retries()).mutate_request(sign_with_md5);
    let answer = match request.send().await {
        Ok(answer) => answer,
        Err(error) => {
            let error = bucket.location.failure(ACTION, error);
            return keys.iter().map(|key| (key.clone(), error.clone())).collect();
        }
    };
    let gone: HashSet<_> = answer.deleted().iter().filter_map(|deleted| deleted.key()).collect();
    let mut left = Vec::new();
    for key in keys.iter().filter(|key| !gone.contains(key.as_str())) {
        let Some(error) = answer.errors().iter().find(|error| error.key() == Some(key.as_str())) else {
            left.push((key.clone(), Error::unavailable("the store did not confirm the deletion")));
            continue;
        };
        let refusal = Refusal {
            code: error.code().unwrap_or_default().to_owned(),
            message: error.message().unwrap_or_default().to_owned(),
            ..Refusal::default()
        };
        // A missing blob counts as deleted.
        if refusal.code != "NoSuchKey" {
            left.push((key.clone(), bucket.location.refusal_error(ACTION, &refusal)));
        }
    }
    left
}

/// Adds the `content-md5` header. Amazon accepts the newer checksums that the client sends, but
/// other servers still insist on this one.
fn sign_with_md5(request: &mut HttpRequest) {
    if let Some(body) = request.body().bytes() {
        let digest = STANDARD.encode(Md5::digest(body));
        request.headers_mut().insert("content-md5", digest);
    }
}
