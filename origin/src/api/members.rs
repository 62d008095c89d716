//! `/members`: who is what in a project. Seen by its maintainers, changed by its owners.

use gossip::access::{Action, ProjectName, Role};
use http::{Method, StatusCode};
use oci::http::empty_response;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Answer, Call,
    access::Admin,
    document::{Page, created, expected, read, versioned},
    grammar,
    problem::{Problem, made},
};
use crate::database::{accounts::Expected, members::MemberRow};

/// A member.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "Member")]
pub(super) struct Document {
    project: String,
    /// A user's or a robot's.
    name: String,
    /// `guest`, `developer`, `maintainer` or `owner`.
    role: Role,
    since: String,
}

/// A member to be made, or to be given another role.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "NewMember")]
pub(super) struct New {
    #[schemars(schema_with = "grammar::project_name")]
    project: String,
    #[schemars(schema_with = "grammar::account_name")]
    name: String,
    role: Role,
}

/// Another role.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "MemberChange")]
pub(super) struct Patch {
    role: Role,
}

pub(super) async fn all(call: Call<'_>) -> Answer {
    match call.method {
        Method::GET => list(&call).await,
        Method::POST => create(call).await,
        _ => Err(Problem::method_not_allowed("GET, POST")),
    }
}

pub(super) async fn one(call: Call<'_>, project: &str, name: &str) -> Answer {
    let project: ProjectName = project.parse()?;
    match call.method {
        Method::GET => {
            need_to_see(&call.admin, &project).await?;
            show(&call.admin, &project, name).await
        }
        Method::PATCH => change(call, &project, name).await,
        Method::DELETE => remove(&call, &project, name).await,
        _ => Err(Problem::method_not_allowed("GET, PATCH, DELETE")),
    }
}

async fn list(call: &Call<'_>) -> Answer {
    let project =
        call.query.get("project").ok_or_else(|| Problem::invalid("say whose members: ?project=NAME"))?;
    let project: ProjectName = project.parse()?;
    need_to_see(&call.admin, &project).await?;
    let page = Page::of(call)?;
    let rows = call.admin.database().members(&project, &page.after, page.limit + 1).await?;
    let shown = rows.into_iter().map(|row| document(&project, row)).collect();
    Ok(page.answer(shown, |member| &member.name, "members", Some(("project", project.as_str()))))
}

/// Members are seen by maintainers, and by auditors.
async fn need_to_see(admin: &Admin<'_>, project: &ProjectName) -> Result<(), Problem> {
    if admin.may_system(gossip::access::SystemAction::SeeSystem) {
        return admin.need(project, Action::See).await;
    }
    admin.need(project, Action::ManageRobots).await
}

async fn create(call: Call<'_>) -> Answer {
    let new: New = read(&call.parts, call.body).await?;
    let project: ProjectName = new.project.parse()?;
    call.admin.need(&project, Action::ManageMembers).await?;
    let set = call.admin.database().set_member(&project, &new.name, new.role, Expected(None)).await?;
    made(set, &new.name)?;
    call.admin.changed();
    let row = found(&call.admin, &project, &new.name).await?;
    let (version, path) = (row.version, format!("members/{project}/{}", row.name));
    Ok(created(&document(&project, row), version, &path))
}

async fn change(call: Call<'_>, project: &ProjectName, name: &str) -> Answer {
    call.admin.need(project, Action::ManageMembers).await?;
    let current = found(&call.admin, project, name).await?;
    let expected = Expected(Some(expected(&call)?.0.unwrap_or(current.version)));
    let patch: Patch = read(&call.parts, call.body).await?;
    let set = call.admin.database().set_member(project, name, patch.role, expected).await?;
    made(set, &format!("member {name}"))?;
    call.admin.changed();
    show(&call.admin, project, name).await
}

async fn remove(call: &Call<'_>, project: &ProjectName, name: &str) -> Answer {
    call.admin.need(project, Action::ManageMembers).await?;
    let removed = call.admin.database().remove_member(project, name, expected(call)?).await?;
    made(removed, &format!("member {name} of {project}"))?;
    call.admin.changed();
    Ok(empty_response(StatusCode::NO_CONTENT))
}

async fn show(admin: &Admin<'_>, project: &ProjectName, name: &str) -> Answer {
    let row = found(admin, project, name).await?;
    let version = row.version;
    Ok(versioned(StatusCode::OK, &document(project, row), version))
}

async fn found(admin: &Admin<'_>, project: &ProjectName, name: &str) -> Result<MemberRow, Problem> {
    let row = admin.database().member(project, name).await?;
    row.ok_or_else(|| {
        Problem::new(StatusCode::NOT_FOUND, format!("{name:?} is no member of project {project}"))
    })
}

fn document(project: &ProjectName, row: MemberRow) -> Document {
    Document { project: project.to_string(), name: row.name, role: row.role, since: row.created_at.rfc3339() }
}
