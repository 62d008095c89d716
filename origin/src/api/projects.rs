//! `/projects`: made by admins, changed by owners, shown to whoever may see them.

use std::collections::BTreeSet;

use gossip::access::{Action, ProjectName, SystemAction, Visibility};
use http::{HeaderValue, Method, StatusCode, header};
use ipnet::IpNet;
use oci::http::empty_response;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Answer, Call,
    access::Admin,
    document::{Page, check_networks, created, expected, read, versioned},
    grammar,
    problem::{Problem, made},
};
use crate::database::projects::{Images, ProjectChange, ProjectRow};

/// A project.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "Project")]
pub(super) struct Document {
    name: String,
    /// Whether anybody may pull.
    public: bool,
    /// Clients from these networks pull without saying who they are.
    #[schemars(with = "Vec<String>")]
    anonymous_networks: Vec<IpNet>,
    /// Those with an image.
    repositories: u64,
    /// Of its blobs, each counted once.
    bytes: u64,
    created: String,
}

/// A project to be made.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "NewProject")]
pub(super) struct New {
    #[schemars(schema_with = "grammar::project_name")]
    name: String,
    #[serde(default)]
    public: bool,
    #[serde(default)]
    #[schemars(schema_with = "grammar::networks")]
    anonymous_networks: Vec<IpNet>,
}

/// What is to be changed; the rest stays.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ProjectChange")]
pub(super) struct Patch {
    #[serde(default)]
    public: Option<bool>,
    #[serde(default)]
    #[schemars(schema_with = "grammar::networks_or_none")]
    anonymous_networks: Option<Vec<IpNet>>,
}

pub(super) async fn all(call: Call<'_>) -> Answer {
    match call.method {
        Method::GET => list(&call).await,
        Method::POST => create(call).await,
        _ => Err(Problem::method_not_allowed("GET, POST")),
    }
}

pub(super) async fn one(call: Call<'_>, name: &str) -> Answer {
    let name: ProjectName = name.parse()?;
    match call.method {
        Method::GET => {
            call.admin.need(&name, Action::See).await?;
            show(&call.admin, &name, StatusCode::OK).await
        }
        Method::PATCH => change(call, &name).await,
        Method::DELETE => remove(&call, &name).await,
        _ => Err(Problem::method_not_allowed("GET, PATCH, DELETE")),
    }
}

async fn list(call: &Call<'_>) -> Answer {
    let page = Page::of(call)?;
    let (database, caller) = (call.admin.database(), call.admin.caller().id());
    let (mut shown, mut after) = (Vec::new(), page.after.clone());
    // Filled with what the caller may see, however many there are between.
    while shown.len() <= page.limit as usize {
        let standings = database.standings(caller, &after, page.limit + 1).await?;
        let Some((_, last)) = standings.last() else { break };
        let visible: BTreeSet<String> = standings
            .iter()
            .filter(|(_, standing)| call.admin.may_with(standing, Action::See))
            .map(|(_, standing)| standing.project.name.to_string())
            .collect();
        if !visible.is_empty() {
            let rows = database.projects(&after, page.limit + 1).await?;
            shown.extend(rows.into_iter().filter(|row| visible.contains(&row.name)).map(document));
        }
        after = last.project.name.to_string();
    }
    Ok(page.answer(shown, |project| &project.name, "projects", None))
}

async fn create(call: Call<'_>) -> Answer {
    call.admin.need_system(SystemAction::CreateProject)?;
    let new: New = read(&call.parts, call.body).await?;
    let name: ProjectName = new.name.parse()?;
    if name.as_str() == "system" {
        return Err(Problem::invalid("no project is called system: robots of the system are named after it"));
    }
    check_networks(&new.anonymous_networks)?;
    let visibility = visibility(new.public);
    let change = call.admin.database().create_project(&name, visibility, &new.anonymous_networks).await?;
    made(change, &format!("project {name}"))?;
    call.admin.changed();
    let row = found(&call.admin, &name).await?;
    let version = row.version;
    Ok(created(&document(row), version, &format!("projects/{name}")))
}

async fn change(call: Call<'_>, name: &ProjectName) -> Answer {
    call.admin.need(name, Action::ManageProject).await?;
    let expected = expected(&call)?;
    let patch: Patch = read(&call.parts, call.body).await?;
    check_networks(patch.anonymous_networks.as_deref().unwrap_or_default())?;
    let change = ProjectChange {
        visibility: patch.public.map(visibility),
        anonymous_networks: patch.anonymous_networks,
    };
    let changed = call.admin.database().change_project(name, &change, expected).await?;
    made(changed, &format!("project {name}"))?;
    call.admin.changed();
    show(&call.admin, name, StatusCode::OK).await
}

async fn remove(call: &Call<'_>, name: &ProjectName) -> Answer {
    call.admin.need(name, Action::ManageProject).await?;
    let images = match call.query.get("with_images") {
        Some("true") => Images::Remove,
        Some("false") | None => Images::Keep,
        Some(_) => return Err(Problem::invalid("with_images is true or false")),
    };
    if images == Images::Remove {
        // Whoever may not delete an image may not delete all of them.
        call.admin.need(name, Action::Delete).await?;
        if !call.admin.settings().delete {
            return Err(Problem::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "deleting is switched off at this registry",
            )
            .header(header::ALLOW, HeaderValue::from_static("GET, PATCH")));
        }
    }
    let removed = call.admin.database().remove_project(name, images, expected(call)?).await?;
    made(removed, &format!("project {name}"))?;
    call.admin.changed();
    Ok(empty_response(StatusCode::NO_CONTENT))
}

async fn show(admin: &Admin<'_>, name: &ProjectName, status: StatusCode) -> Answer {
    let row = found(admin, name).await?;
    let version = row.version;
    Ok(versioned(status, &document(row), version))
}

async fn found(admin: &Admin<'_>, name: &ProjectName) -> Result<ProjectRow, Problem> {
    let row = admin.database().project(name).await?;
    row.ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, format!("there is no project {name}")))
}

fn document(row: ProjectRow) -> Document {
    Document {
        name: row.name,
        public: row.visibility == Visibility::Public,
        anonymous_networks: row.anonymous_networks,
        repositories: row.repositories,
        bytes: row.bytes,
        created: row.created_at.rfc3339(),
    }
}

fn visibility(public: bool) -> Visibility {
    if public { Visibility::Public } else { Visibility::Private }
}
