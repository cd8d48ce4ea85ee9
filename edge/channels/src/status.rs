//! Causes of failed calls.

use matyan_proto::{ERROR_DOMAIN, common::v1::Code as ProductCode};
use tonic::{Code, Status};
use tonic_types::StatusExt;

/// The product's code of a failed call, if a service of the product has failed the call.
pub fn product_code(status: &Status) -> Option<ProductCode> {
    let info = status.get_details_error_info().filter(|info| info.domain == ERROR_DOMAIN)?;
    ProductCode::from_str_name(&format!("CODE_{}", info.reason))
}

/// The kind of resource that a call did not find.
pub fn missing_resource(status: &Status) -> Option<String> {
    status.get_details_error_info()?.metadata.get("resource").cloned()
}

/// Returns whether a call has failed because the resource that it names does not exist. A missing project is another
/// failure: the client did not ask for the project.
pub fn is_missing(status: &Status) -> bool {
    status.code() == Code::NotFound && missing_resource(status).as_deref() != Some("project")
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tonic_types::ErrorDetails;

    use super::*;

    fn status(code: Code, domain: &str, resource: &str) -> Status {
        let metadata = HashMap::from([("resource".to_owned(), resource.to_owned())]);
        Status::with_error_details(code, "x", ErrorDetails::with_error_info("NOT_FOUND", domain, metadata))
    }

    #[test]
    fn a_missing_project_and_a_missing_run_are_different_failures() {
        assert!(is_missing(&status(Code::NotFound, ERROR_DOMAIN, "run")));
        assert!(is_missing(&Status::not_found("x")));
        assert!(!is_missing(&status(Code::NotFound, ERROR_DOMAIN, "project")));
        assert!(!is_missing(&status(Code::Unavailable, ERROR_DOMAIN, "run")));
    }

    #[test]
    fn codes_of_other_domains_are_not_codes_of_the_product() {
        let code = |domain| product_code(&status(Code::NotFound, domain, "run"));
        assert_eq!((code(ERROR_DOMAIN), code("elsewhere")), (Some(ProductCode::NotFound), None));
    }
}
