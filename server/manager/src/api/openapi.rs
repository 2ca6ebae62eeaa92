//! The API's description: OpenAPI 3.1, made from the table of calls and the types that they take and give.

use std::sync::{Arc, LazyLock};

use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response as Answer};
use utoipa::openapi::path::{HttpMethod, OperationBuilder, ParameterBuilder, ParameterIn};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    ComponentsBuilder, ContentBuilder, InfoBuilder, ObjectBuilder, OpenApi, OpenApiBuilder,
    PathItem, PathsBuilder, Ref, RefOr, Required, ResponseBuilder, Schema, Type,
};
use utoipa::{PartialSchema, ToSchema};

use super::Refusal;
use super::calls::{CALLS, Call, May};
use crate::RequestView;

/// How calls are authorised.
const BEARER: &str = "bearer";

/// A type, by its schema, and those that it is made of.
pub struct Described {
    name: String,
    schemas: Vec<(String, RefOr<Schema>)>,
}

/// Describes a type.
pub(super) fn of<T: ToSchema>() -> Described {
    let name = T::name().into_owned();
    let mut schemas = vec![(name.clone(), T::schema())];
    T::schemas(&mut schemas);
    Described { name, schemas }
}

/// This description.
pub(super) struct Document;

impl PartialSchema for Document {
    fn schema() -> RefOr<Schema> {
        let any = ObjectBuilder::new().description(Some("An OpenAPI 3.1 document"));
        RefOr::T(Schema::Object(any.build()))
    }
}

impl ToSchema for Document {}

pub(super) async fn document() -> Answer {
    static TEXT: LazyLock<Arc<str>> =
        LazyLock::new(|| describe().to_json().expect("plain fields").into());
    ([(CONTENT_TYPE, "application/json")], TEXT.to_string()).into_response()
}

/// The whole description.
#[must_use]
pub fn describe() -> OpenApi {
    let (mut paths, mut components) = (PathsBuilder::new(), ComponentsBuilder::new());
    for call in CALLS {
        let (operation, described) = operation(call);
        let method = match call.method {
            "GET" => HttpMethod::Get,
            "POST" => HttpMethod::Post,
            "PATCH" => HttpMethod::Patch,
            _ => HttpMethod::Delete,
        };
        paths = paths.path(call.path, PathItem::new(method, operation));
        for one in described {
            components = components.schemas_from_iter(one.schemas);
        }
    }
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(
        "the token of a session (`POST /v1/session`), or one of an operator's (`POST /v1/session/tokens`)",
    ));
    let components =
        components.security_scheme(BEARER, SecurityScheme::Http(bearer.build())).build();
    let info = InfoBuilder::new()
        .title("Sealwire management")
        .version("1")
        .description(Some("Keys, apps, operators and the audit of a Sealwire site."));
    OpenApiBuilder::new()
        .info(info.build())
        .paths(paths.build())
        .components(Some(components))
        .build()
}

fn operation(call: &Call) -> (utoipa::openapi::path::Operation, Vec<Described>) {
    let mut operation = OperationBuilder::new().summary(Some(call.summary));
    let mut described = vec![of::<Refusal>()];
    for part in call.path.split('/').filter_map(|part| part.strip_prefix('{')) {
        let name = part.trim_end_matches('}');
        operation = operation.parameter(parameter(name, Type::String, ParameterIn::Path));
    }
    for (name, number) in call.query {
        let of = if *number { Type::Integer } else { Type::String };
        operation = operation.parameter(parameter(name, of, ParameterIn::Query));
    }
    if let Some(takes) = call.takes {
        let body = takes();
        let content = content(&body.name);
        let body_of = RequestBodyBuilder::new().content("application/json", content);
        operation = operation.request_body(Some(body_of.required(Some(Required::True)).build()));
        described.push(body);
    }
    let gives = (call.gives)();
    operation = operation.response("200", response("done", &gives.name));
    described.push(gives);
    if call.asks {
        let asked = of::<RequestView>();
        let words = "asked for: another operator must approve it";
        operation = operation.response("202", response(words, &asked.name));
        described.push(asked);
    }
    operation = operation.response("default", response("refused", &described[0].name));
    if call.may != May::Anybody {
        let none: [&str; 0] = [];
        operation = operation.security(SecurityRequirement::new(BEARER, none));
    }
    (operation.build(), described)
}

fn parameter(name: &str, of: Type, place: ParameterIn) -> utoipa::openapi::path::Parameter {
    let required = if place == ParameterIn::Path { Required::True } else { Required::False };
    let schema = ObjectBuilder::new().schema_type(of).build();
    ParameterBuilder::new()
        .name(name)
        .parameter_in(place)
        .required(required)
        .schema(Some(Schema::Object(schema)))
        .build()
}

fn content(name: &str) -> utoipa::openapi::Content {
    ContentBuilder::new().schema(Some(Ref::from_schema_name(name))).build()
}

fn response(words: &str, name: &str) -> utoipa::openapi::Response {
    let answer = ResponseBuilder::new().description(words);
    answer.content("application/json", content(name)).build()
}
