//! Dashboards, apps, and reports, in which the UI stores its own state. Three resources with
//! the same calls.

use std::sync::Arc;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{Method, StatusCode};
use matyan_proto::{apps, dashboards, reports};
use matyan_value::json::{self, JsonStyle};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::call::{Call, Dialect};
use super::json_list::{self, JsonItems};
use super::request_schema::{Member, RequestSchema};
use super::response_schema::ResponseSchema;
use super::shared::iso;
use super::table::{Answer, Operation, Output};
use super::values;
use crate::error::ApiError;
use crate::services::Services;

const DASHBOARD: RequestSchema = RequestSchema::Record(&[
    Member::required("name", RequestSchema::Text),
    Member::optional("description", RequestSchema::Text),
    Member::optional("app_id", RequestSchema::Text),
]);

const DASHBOARD_CHANGES: RequestSchema = RequestSchema::Record(&[
    Member::optional("name", RequestSchema::Text),
    Member::optional("description", RequestSchema::Text),
]);

const APP: RequestSchema = RequestSchema::Record(&[
    Member::required("type", RequestSchema::Text),
    Member::required("state", RequestSchema::AnyObject),
]);

const APP_CHANGES: RequestSchema = RequestSchema::Record(&[
    Member::optional("type", RequestSchema::Text),
    Member::optional("state", RequestSchema::AnyObject),
]);

const REPORT: RequestSchema = RequestSchema::Record(&[
    Member::required("name", RequestSchema::Text),
    Member::optional("code", RequestSchema::Text),
    Member::optional("description", RequestSchema::Text),
]);

const REPORT_CHANGES: RequestSchema = RequestSchema::Record(&[
    Member::optional("name", RequestSchema::Text),
    Member::optional("code", RequestSchema::Text),
    Member::optional("description", RequestSchema::Text),
]);

const DASHBOARD_SCHEMA: ResponseSchema = ResponseSchema::Record(&[
    ("id", ResponseSchema::Text),
    ("name", ResponseSchema::Text),
    ("description", ResponseSchema::Text),
    ("app_id", ResponseSchema::TextOrNull),
    ("app_type", ResponseSchema::TextOrNull),
    ("updated_at", ResponseSchema::Text),
    ("created_at", ResponseSchema::Text),
]);

const APP_SCHEMA: ResponseSchema = ResponseSchema::Record(&[
    ("id", ResponseSchema::Text),
    ("type", ResponseSchema::Text),
    ("updated_at", ResponseSchema::Text),
    ("created_at", ResponseSchema::Text),
    ("state", ResponseSchema::AnyObject),
]);

const REPORT_SCHEMA: ResponseSchema = ResponseSchema::Record(&[
    ("id", ResponseSchema::Text),
    ("name", ResponseSchema::Text),
    ("code", ResponseSchema::Text),
    ("description", ResponseSchema::Text),
    ("updated_at", ResponseSchema::Text),
    ("created_at", ResponseSchema::Text),
]);

/// Adds the five operations of a resource. The messages of the three resources differ only by
/// their module.
macro_rules! operations_of {
    ($list:ident, $path:literal, $word:literal, $new:ident, $changes:ident, $schema:ident, $module:ident) => {
        let one = concat!($path, "/{id}");
        $list.extend([
            Operation::new(Method::GET, $path, concat!("List all ", $word, "s"), |s, call| {
                Box::pin($module::list(s, call))
            })
            .answers(const { &ResponseSchema::List(&$schema) }),
            Operation::new(Method::POST, $path, concat!("Create a new ", $word), |s, call| {
                Box::pin($module::create(s, call))
            })
            .success(201)
            .json(&$new)
            .answers(&$schema),
            Operation::new(Method::GET, one, concat!("Get one ", $word), |s, call| {
                Box::pin($module::get(s, call))
            })
            .answers(&$schema),
            Operation::new(Method::PUT, one, concat!("Change a ", $word), |s, call| {
                Box::pin($module::update(s, call))
            })
            .json(&$changes)
            .answers(&$schema),
            Operation::new(Method::DELETE, one, concat!("Delete a ", $word), |s, call| {
                Box::pin($module::delete(s, call))
            })
            .success(204)
            .output(Output::Deleted),
        ]);
    };
}

pub(crate) fn operations() -> Vec<Operation> {
    let mut operations = Vec::new();
    operations_of!(
        operations,
        "/dashboards",
        "dashboard",
        DASHBOARD,
        DASHBOARD_CHANGES,
        DASHBOARD_SCHEMA,
        dashboard
    );
    operations_of!(operations, "/apps", "app", APP, APP_CHANGES, APP_SCHEMA, app);
    operations_of!(operations, "/reports", "report", REPORT, REPORT_CHANGES, REPORT_SCHEMA, report);
    operations
}

fn text(call: &Call, name: &str) -> Option<String> {
    call.member(name).map(str::to_owned)
}

/// Responds to a deletion. The bundle of Aim parses JSON from every successful response, so it
/// gets `null`.
fn deleted(call: &Call) -> Response {
    match call.dialect {
        Dialect::Matyan => StatusCode::NO_CONTENT.into_response(),
        Dialect::Aim => Json(Value::Null).into_response(),
    }
}

fn created(value: Value) -> Response {
    (StatusCode::CREATED, Json(value)).into_response()
}

mod dashboard {
    use super::dashboards::v1::*;
    use super::*;

    fn show(it: &Dashboard) -> Value {
        let known = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        json!({
            "id": it.id,
            "name": it.name,
            "description": it.description,
            "app_id": it.app_id,
            "app_type": known(&it.app_type),
            "updated_at": iso(it.updated_us),
            "created_at": iso(it.created_us),
        })
    }

    pub(super) async fn list(services: Arc<Services>, _: Call) -> Answer {
        let messages = services.backend().dashboards().list(ListRequest {}).await?.into_inner();
        let write = |message: ListResponse, items: &mut JsonItems| {
            message.dashboards.iter().for_each(|it| items.push(&show(it)));
            Ok(())
        };
        json_list::answer("[", messages, write, "]").await
    }

    pub(super) async fn create(services: Arc<Services>, call: Call) -> Answer {
        let request = CreateRequest {
            name: text(&call, "name").unwrap_or_default(),
            description: text(&call, "description").unwrap_or_default(),
            app_id: text(&call, "app_id").unwrap_or_default(),
        };
        let answer = services.backend().dashboards().create(request).await?.into_inner();
        Ok(created(show(&answer.dashboard.unwrap_or_default())))
    }

    pub(super) async fn get(services: Arc<Services>, call: Call) -> Answer {
        let request = GetRequest { id: call.path("id") };
        let answer = services.backend().dashboards().get(request).await?.into_inner();
        Ok(Json(show(&answer.dashboard.unwrap_or_default())).into_response())
    }

    pub(super) async fn update(services: Arc<Services>, call: Call) -> Answer {
        let (name, description) = (text(&call, "name"), text(&call, "description"));
        let request = UpdateRequest { id: call.path("id"), name, description };
        let answer = services.backend().dashboards().update(request).await?.into_inner();
        Ok(Json(show(&answer.dashboard.unwrap_or_default())).into_response())
    }

    pub(super) async fn delete(services: Arc<Services>, call: Call) -> Answer {
        let request = DeleteRequest { id: call.path("id") };
        services.backend().dashboards().delete(request).await?;
        Ok(deleted(&call))
    }
}

mod app {
    use bytes::Bytes;
    use serde::Serialize;

    use super::apps::v1::*;
    use super::*;

    #[derive(Serialize)]
    struct AppView<'a> {
        id: &'a str,
        r#type: &'a str,
        updated_at: String,
        created_at: String,
        state: Box<RawValue>,
    }

    fn show(it: &App) -> Result<AppView<'_>, ApiError> {
        Ok(AppView {
            id: &it.id,
            r#type: &it.r#type,
            updated_at: iso(it.updated_us),
            created_at: iso(it.created_us),
            state: values::json(&it.state, JsonStyle::STRICT)?,
        })
    }

    /// Encodes the state from the text of the body, because parsing into a tree would lose
    /// the types of numbers.
    fn state(call: &Call) -> Result<Option<Bytes>, ApiError> {
        // `null` means that the member is absent.
        let state = call.raw_member("state").filter(|text| text != "null");
        let encode = |text: String| {
            json::to_cbor(&text).map(Bytes::from).map_err(|error| {
                ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, format!("body.state: {error}"))
            })
        };
        state.map(encode).transpose()
    }

    pub(super) async fn list(services: Arc<Services>, _: Call) -> Answer {
        let messages = services.backend().apps().list(ListRequest {}).await?.into_inner();
        let write = |message: ListResponse, items: &mut JsonItems| {
            message.apps.iter().try_for_each(|it| {
                items.push(&show(it)?);
                Ok(())
            })
        };
        json_list::answer("[", messages, write, "]").await
    }

    pub(super) async fn create(services: Arc<Services>, call: Call) -> Answer {
        let request = CreateRequest {
            r#type: text(&call, "type").unwrap_or_default(),
            state: state(&call)?.unwrap_or_default(),
        };
        let answer = services.backend().apps().create(request).await?.into_inner();
        Ok((StatusCode::CREATED, Json(show(&answer.app.unwrap_or_default())?)).into_response())
    }

    pub(super) async fn get(services: Arc<Services>, call: Call) -> Answer {
        let answer = services.backend().apps().get(GetRequest { id: call.path("id") }).await?;
        Ok(Json(show(&answer.into_inner().app.unwrap_or_default())?).into_response())
    }

    pub(super) async fn update(services: Arc<Services>, call: Call) -> Answer {
        let request =
            UpdateRequest { id: call.path("id"), r#type: text(&call, "type"), state: state(&call)? };
        let answer = services.backend().apps().update(request).await?.into_inner();
        Ok(Json(show(&answer.app.unwrap_or_default())?).into_response())
    }

    pub(super) async fn delete(services: Arc<Services>, call: Call) -> Answer {
        services.backend().apps().delete(DeleteRequest { id: call.path("id") }).await?;
        Ok(deleted(&call))
    }
}

mod report {
    use super::reports::v1::*;
    use super::*;

    fn show(it: &Report) -> Value {
        json!({
            "id": it.id,
            "name": it.name,
            "code": it.code,
            "description": it.description,
            "updated_at": iso(it.updated_us),
            "created_at": iso(it.created_us),
        })
    }

    pub(super) async fn list(services: Arc<Services>, _: Call) -> Answer {
        let messages = services.backend().reports().list(ListRequest {}).await?.into_inner();
        let write = |message: ListResponse, items: &mut JsonItems| {
            message.reports.iter().for_each(|it| items.push(&show(it)));
            Ok(())
        };
        json_list::answer("[", messages, write, "]").await
    }

    pub(super) async fn create(services: Arc<Services>, call: Call) -> Answer {
        let request = CreateRequest {
            name: text(&call, "name").unwrap_or_default(),
            code: text(&call, "code").unwrap_or_default(),
            description: text(&call, "description").unwrap_or_default(),
        };
        let answer = services.backend().reports().create(request).await?.into_inner();
        Ok(created(show(&answer.report.unwrap_or_default())))
    }

    pub(super) async fn get(services: Arc<Services>, call: Call) -> Answer {
        let answer = services.backend().reports().get(GetRequest { id: call.path("id") }).await?;
        Ok(Json(show(&answer.into_inner().report.unwrap_or_default())).into_response())
    }

    pub(super) async fn update(services: Arc<Services>, call: Call) -> Answer {
        let request = UpdateRequest {
            id: call.path("id"),
            name: text(&call, "name"),
            code: text(&call, "code"),
            description: text(&call, "description"),
        };
        let answer = services.backend().reports().update(request).await?.into_inner();
        Ok(Json(show(&answer.report.unwrap_or_default())).into_response())
    }

    pub(super) async fn delete(services: Arc<Services>, call: Call) -> Answer {
        services.backend().reports().delete(DeleteRequest { id: call.path("id") }).await?;
        Ok(deleted(&call))
    }
}
