//! The API's description (OpenAPI 3.1), made from the types that requests and answers are.

use http::{Response, StatusCode};
use oci::http::Body;
use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use super::{document, grammar, members, node, problem, projects, robots, users};

/// An operation: what is documented is what is served, and a test asks each of them.
pub(super) struct Operation {
    pub(super) method: &'static str,
    /// Below [`super::PREFIX`], with `{name}` in the place of a name.
    pub(super) path: &'static str,
    summary: &'static str,
    query: &'static [Parameter],
    request: Option<Schema>,
    answer: Option<(u16, Kind)>,
}

/// A parameter of the query.
#[derive(Clone, Copy)]
struct Parameter {
    name: &'static str,
    description: &'static str,
    kind: ParameterKind,
}

#[derive(Clone, Copy)]
enum ParameterKind {
    Limit,
    /// Any text, which may be left out.
    Text,
    /// The name of a project, which may be left out.
    Project,
    /// The same, which may not.
    NeededProject,
    Flag,
}

/// What a body is.
#[derive(Clone, Copy)]
enum Kind {
    One(Schema),
    List(Schema),
}

type Schema = fn(&mut SchemaGenerator) -> Value;

fn schema<T: JsonSchema>(generator: &mut SchemaGenerator) -> Value {
    generator.subschema_for::<T>().to_value()
}

const LIMIT: Parameter = Parameter {
    name: "limit",
    description: "How many entries, 1 to 1000; 100 by default",
    kind: ParameterKind::Limit,
};
const AFTER: Parameter =
    Parameter { name: "after", description: "The name before the first entry", kind: ParameterKind::Text };
const WITH_IMAGES: Parameter =
    Parameter { name: "with_images", description: "`true`: and the images in it", kind: ParameterKind::Flag };

const fn project(kind: ParameterKind) -> Parameter {
    Parameter { name: "project", description: "Of which project", kind }
}

const PAGE: [Parameter; 2] = [LIMIT, AFTER];
const PAGE_OF_PROJECT: [Parameter; 3] = [project(ParameterKind::NeededProject), LIMIT, AFTER];
const PAGE_OF_ANY_PROJECT: [Parameter; 3] = [project(ParameterKind::Project), LIMIT, AFTER];

impl Operation {
    const fn new(method: &'static str, path: &'static str, summary: &'static str) -> Self {
        Self { method, path, summary, query: &[], request: None, answer: None }
    }

    const fn query(self, query: &'static [Parameter]) -> Self {
        Self { query, ..self }
    }

    const fn takes(self, schema: Schema) -> Self {
        Self { request: Some(schema), ..self }
    }

    const fn gives(self, status: u16, kind: Kind) -> Self {
        Self { answer: Some((status, kind)), ..self }
    }
}

/// All operations.
pub(super) const OPERATIONS: [Operation; 23] = [
    Operation::new("GET", "node", "What answers here").gives(200, Kind::One(schema::<node::Document<'_>>)),
    Operation::new("GET", "projects", "The projects that the caller may see")
        .query(&PAGE)
        .gives(200, Kind::List(schema::<projects::Document>)),
    Operation::new("POST", "projects", "Make a project")
        .takes(schema::<projects::New>)
        .gives(201, Kind::One(schema::<projects::Document>)),
    Operation::new("GET", "projects/{name}", "A project").gives(200, Kind::One(schema::<projects::Document>)),
    Operation::new("PATCH", "projects/{name}", "Change a project")
        .takes(schema::<projects::Patch>)
        .gives(200, Kind::One(schema::<projects::Document>)),
    Operation::new("DELETE", "projects/{name}", "Remove a project").query(&[WITH_IMAGES]),
    Operation::new("GET", "users", "The users")
        .query(&PAGE)
        .gives(200, Kind::List(schema::<users::Document>)),
    Operation::new("POST", "users", "Make a user")
        .takes(schema::<users::New>)
        .gives(201, Kind::One(schema::<users::Document>)),
    Operation::new("GET", "users/{name}", "A user").gives(200, Kind::One(schema::<users::Document>)),
    Operation::new("PATCH", "users/{name}", "Change a user")
        .takes(schema::<users::Patch>)
        .gives(200, Kind::One(schema::<users::Document>)),
    Operation::new("DELETE", "users/{name}", "Remove a user"),
    Operation::new("GET", "members", "The members of a project")
        .query(&PAGE_OF_PROJECT)
        .gives(200, Kind::List(schema::<members::Document>)),
    Operation::new("POST", "members", "Make a user or a robot a member, or give a member another role")
        .takes(schema::<members::New>)
        .gives(201, Kind::One(schema::<members::Document>)),
    Operation::new("GET", "members/{project}/{name}", "A member")
        .gives(200, Kind::One(schema::<members::Document>)),
    Operation::new("PATCH", "members/{project}/{name}", "Give a member another role")
        .takes(schema::<members::Patch>)
        .gives(200, Kind::One(schema::<members::Document>)),
    Operation::new("DELETE", "members/{project}/{name}", "End a membership"),
    Operation::new("GET", "robots", "The robots that the caller may manage")
        .query(&PAGE_OF_ANY_PROJECT)
        .gives(200, Kind::List(schema::<robots::Document>)),
    Operation::new("POST", "robots", "Make a robot; its secret is shown this once")
        .takes(schema::<robots::New>)
        .gives(201, Kind::One(schema::<robots::Given>)),
    Operation::new("GET", "robots/{name}", "A robot").gives(200, Kind::One(schema::<robots::Document>)),
    Operation::new("PATCH", "robots/{name}", "Shut a robot out, or let it in again")
        .takes(schema::<robots::Patch>)
        .gives(200, Kind::One(schema::<robots::Document>)),
    Operation::new("DELETE", "robots/{name}", "Remove a robot"),
    Operation::new(
        "POST",
        "robots/{name}/rotate",
        "Give a robot another secret; the one before counts a while longer",
    )
    .takes(schema::<robots::Rotation>)
    .gives(200, Kind::One(schema::<robots::Given>)),
    Operation::new("GET", "openapi.json", "This description; asked by anybody")
        .gives(200, Kind::One(any_object)),
];

fn any_object(_: &mut SchemaGenerator) -> Value {
    json!({"type": "object"})
}

/// The longest name of a project, in bytes. Robots' may be longer; who makes up a name does not need that.
const LONGEST: u32 = 128;
/// The longest name of a user, in bytes.
const LONGEST_USER: u32 = 64;

/// The description as an answer.
pub(super) fn answer() -> Response<Body> {
    document::json(StatusCode::OK, &description())
}

pub(super) fn description() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut generator = settings.into_generator();
    let details = generator.subschema_for::<problem::Details<'_>>().to_value();
    let mut paths = Map::new();
    for operation in &OPERATIONS {
        let path = format!("{}{}", super::PREFIX, operation.path);
        let entry = paths.entry(path).or_insert_with(|| json!({}));
        entry[operation.method.to_lowercase()] = describe(operation, &details, &mut generator);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Roadstead administration API",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Lists are pages: `Link` names the next one. `ETag` is a version, and a change with `If-Match` is \
                made only if it is still that one (`412` otherwise). What fails is a problem document (RFC 9457).",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "security": [{"basic": []}, {"bearer": []}],
        "paths": paths,
        "components": {
            "schemas": generator.definitions(),
            "securitySchemes": {
                "basic": {"type": "http", "scheme": "basic"},
                "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
            },
        },
    })
}

fn describe(operation: &Operation, details: &Value, generator: &mut SchemaGenerator) -> Value {
    let problem = json!({"description": "It was not done; `detail` says why.",
        "content": {"application/problem+json": {"schema": details}}});
    let mut answers = Map::from_iter([("default".to_owned(), problem)]);
    match operation.answer {
        Some((status, kind)) => {
            let content = json!({"application/json": {"schema": kind.value(generator)}});
            answers.insert(status.to_string(), json!({"description": "Done.", "content": content}));
        }
        None => {
            answers.insert("204".to_owned(), json!({"description": "Done."}));
        }
    }
    let mut described = json!({
        "operationId": operation_id(operation),
        "summary": operation.summary,
        "parameters": parameters(operation),
        "responses": answers,
    });
    if let Some(schema) = operation.request {
        let content = json!({"application/json": {"schema": schema(generator)}});
        described["requestBody"] = json!({"required": true, "content": content});
    }
    if operation.path == "openapi.json" {
        described["security"] = json!([]);
    }
    described
}

impl Kind {
    fn value(self, generator: &mut SchemaGenerator) -> Value {
        match self {
            Self::One(schema) => schema(generator),
            Self::List(schema) => json!({"type": "array", "items": schema(generator)}),
        }
    }
}

fn operation_id(operation: &Operation) -> String {
    let path = operation.path.replace(['{', '}'], "").replace(['/', '.'], "_");
    format!("{}_{path}", operation.method.to_lowercase())
}

fn parameters(operation: &Operation) -> Value {
    let names = operation.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let group = operation.path.split('/').next().unwrap_or_default();
    let in_path = names.map(|name| {
        let (pattern, longest) = match (group, name) {
            (_, "project") | ("projects", _) => (grammar::PROJECT, LONGEST),
            ("users", _) => (grammar::USER, LONGEST_USER),
            ("robots", _) => (grammar::ROBOT, LONGEST),
            _ => (grammar::ACCOUNT, LONGEST),
        };
        let schema = json!({"type": "string", "pattern": pattern, "maxLength": longest});
        json!({"name": name, "in": "path", "required": true, "schema": schema})
    });
    let in_query = operation.query.iter().map(|parameter| {
        let project = || json!({"type": "string", "pattern": grammar::PROJECT, "maxLength": LONGEST});
        let (required, schema) = match parameter.kind {
            ParameterKind::Limit => (false, json!({"type": "integer", "minimum": 1, "maximum": 1000})),
            ParameterKind::Text => (false, json!({"type": "string", "pattern": grammar::PRINTABLE})),
            ParameterKind::Project => (false, project()),
            ParameterKind::NeededProject => (true, project()),
            ParameterKind::Flag => (false, json!({"type": "boolean"})),
        };
        json!({"name": parameter.name, "in": "query", "description": parameter.description,
            "required": required, "schema": schema})
    });
    in_path.chain(in_query).collect()
}
