//! `/robots`: programs with a secret of their own. Those of a project are its maintainers', those of the system the admins'.
//!
//! A robot that manages robots gives none more than it has itself: no action, no network and no day.

use std::{collections::BTreeSet, time::Duration};

use gossip::access::{Action, ContentAction, Principal, ProjectName, RobotName, SystemAction};
use http::{Method, StatusCode};
use ipnet::IpNet;
use oci::{http::empty_response, settings::Span};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Answer, Call,
    access::Admin,
    document::{Page, check_networks, created, expected, json, read, versioned},
    grammar,
    problem::{Problem, made},
};
use crate::{
    database::{
        accounts::{Admission, Proof},
        robots::{NewRobot, RobotRow},
    },
    identity::secret,
    time::Timestamp,
};

/// How long the old secret counts after a rotation, where nobody says.
const OVERLAP: Duration = Duration::from_secs(3600);
/// The longest time that a rotation may leave two secrets.
const MAX_OVERLAP: Duration = Duration::from_secs(30 * 24 * 3600);
/// A robot.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "Robot")]
pub(super) struct Document {
    /// The name to log in with.
    name: String,
    /// What it was made to do: `pull`, `push`, `delete`.
    may: BTreeSet<ContentAction>,
    /// Where it may come from; anywhere, where empty.
    #[schemars(with = "Vec<String>")]
    from: Vec<IpNet>,
    expires: Option<String>,
    disabled: bool,
    created: String,
}

/// A robot to be made.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "NewRobot")]
pub(super) struct New {
    /// `PROJECT+NAME`, or `system+NAME`.
    #[schemars(schema_with = "grammar::robot_name")]
    name: String,
    #[schemars(with = "Vec<ContentAction>", extend("minItems" = 1))]
    may: BTreeSet<ContentAction>,
    #[serde(default)]
    #[schemars(schema_with = "grammar::networks")]
    from: Vec<IpNet>,
    /// A time (RFC 3339), or a duration from now such as `90d`.
    #[serde(default)]
    #[schemars(schema_with = "grammar::when_or_none")]
    expires: Option<String>,
}

/// What is to be changed.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "RobotChange")]
pub(super) struct Patch {
    disabled: bool,
}

/// How a robot gets another secret.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Rotation")]
pub(super) struct Rotation {
    /// How long the old one counts: `1h`.
    #[schemars(schema_with = "grammar::overlap_or_none")]
    overlap: Option<Span>,
}

/// A new secret, shown this once.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "RobotSecret")]
pub(super) struct Given {
    name: String,
    secret: String,
    expires: Option<String>,
}

pub(super) async fn all(call: Call<'_>) -> Answer {
    match call.method {
        Method::GET => list(&call).await,
        Method::POST => create(call).await,
        _ => Err(Problem::method_not_allowed("GET, POST")),
    }
}

pub(super) async fn one(call: Call<'_>, name: &str) -> Answer {
    let name: RobotName = name.parse()?;
    match call.method {
        Method::GET => {
            if !call.admin.may_system(SystemAction::SeeSystem) {
                need(&call.admin, &name).await?;
            }
            show(&call.admin, &name).await
        }
        Method::PATCH => change(call, &name).await,
        Method::DELETE => remove(&call, &name).await,
        _ => Err(Problem::method_not_allowed("GET, PATCH, DELETE")),
    }
}

/// `/robots/NAME/rotate`
pub(super) async fn rotate(call: Call<'_>, name: &str) -> Answer {
    let name: RobotName = name.parse()?;
    if call.method != Method::POST {
        return Err(Problem::method_not_allowed("POST"));
    }
    need(&call.admin, &name).await?;
    let expected = expected(&call)?;
    let rotation: Rotation = read(&call.parts, call.body).await?;
    let overlap = rotation.overlap.map_or(OVERLAP, |span| span.0);
    if overlap > MAX_OVERLAP {
        return Err(Problem::invalid(format!("overlap is at most {}", Span(MAX_OVERLAP))));
    }
    let row = found(&call.admin, &name).await?;
    // Whoever gets the secret gets what it opens.
    within_own(&call.admin, &row.actions, &row.networks, row.expires_at)?;
    let (shown, hash) = secret::for_robot();
    made(
        call.admin.database().rotate_robot(&name, &hash, overlap, expected).await?,
        &format!("robot {name}"),
    )?;
    call.admin.changed();
    let given = Given {
        name: row.name,
        secret: shown.expose().to_owned(),
        expires: row.expires_at.map(Timestamp::rfc3339),
    };
    Ok(json(StatusCode::OK, &given))
}

async fn list(call: &Call<'_>) -> Answer {
    let page = Page::of(call)?;
    let sees_all = call.admin.may_system(SystemAction::SeeSystem);
    let project = call.query.get("project").map(str::parse::<ProjectName>).transpose()?;
    if let Some(project) = &project {
        let action = if sees_all { Action::See } else { Action::ManageRobots };
        call.admin.need(project, action).await?;
    }
    let filter = project.as_ref().map(ProjectName::as_str);
    let (mut shown, mut after) = (Vec::new(), page.after.clone());
    while shown.len() <= page.limit as usize {
        let rows = call.admin.database().robots(filter, &after, page.limit + 1).await?;
        let Some(last) = rows.last() else { break };
        after.clone_from(&last.name);
        for row in rows {
            let name: RobotName = row.name.parse()?;
            let may = sees_all || may(&call.admin, &name).await?;
            if may && shown.len() <= page.limit as usize {
                shown.push(document(row));
            }
        }
    }
    Ok(page.answer(shown, |robot| &robot.name, "robots", filter.map(|project| ("project", project))))
}

async fn create(call: Call<'_>) -> Answer {
    let new: New = read(&call.parts, call.body).await?;
    let name: RobotName = new.name.parse()?;
    need(&call.admin, &name).await?;
    if new.may.is_empty() {
        return Err(Problem::invalid("say what it may: pull, push, delete"));
    }
    check_networks(&new.from)?;
    let expires_at = new.expires.as_deref().map(when).transpose()?;
    within_own(&call.admin, &new.may, &new.from, expires_at)?;
    let (shown, hash) = secret::for_robot();
    let robot = NewRobot { name: &name, secret: &hash, actions: &new.may, networks: &new.from, expires_at };
    made(call.admin.database().create_robot(&robot).await?, &format!("robot {name}"))?;
    call.admin.changed();
    let given = Given {
        name: name.to_string(),
        secret: shown.expose().to_owned(),
        expires: expires_at.map(Timestamp::rfc3339),
    };
    let version = found(&call.admin, &name).await?.version;
    Ok(created(&given, version, &format!("robots/{name}")))
}

async fn change(call: Call<'_>, name: &RobotName) -> Answer {
    need(&call.admin, name).await?;
    let expected = expected(&call)?;
    let patch: Patch = read(&call.parts, call.body).await?;
    let admission = if patch.disabled { Admission::Out } else { Admission::In };
    let changed = call.admin.database().admit(name.as_str(), admission, expected).await?;
    made(changed, &format!("robot {name}"))?;
    call.admin.changed();
    show(&call.admin, name).await
}

async fn remove(call: &Call<'_>, name: &RobotName) -> Answer {
    need(&call.admin, name).await?;
    let removed = call.admin.database().remove_account(name.as_str(), expected(call)?).await?;
    made(removed, &format!("robot {name}"))?;
    call.admin.changed();
    Ok(empty_response(StatusCode::NO_CONTENT))
}

/// Goes on if the caller may manage that robot.
async fn need(admin: &Admin<'_>, name: &RobotName) -> Result<(), Problem> {
    match name.project() {
        None => admin.need_system(SystemAction::ManageSystem),
        Some(project) => admin.need(&project, Action::ManageRobots).await,
    }
}

async fn may(admin: &Admin<'_>, name: &RobotName) -> Result<bool, Problem> {
    match name.project() {
        None => Ok(admin.may_system(SystemAction::ManageSystem)),
        Some(project) => admin.may(&project, Action::ManageRobots).await,
    }
}

/// A robot gives no other robot what it does not have.
fn within_own(
    admin: &Admin<'_>,
    actions: &BTreeSet<ContentAction>,
    networks: &[IpNet],
    expires_at: Option<Timestamp>,
) -> Result<(), Problem> {
    let Principal::Robot(own) = admin.caller().principal() else { return Ok(()) };
    let networks_fit = own.networks.is_empty()
        || (!networks.is_empty()
            && networks.iter().all(|network| own.networks.iter().any(|wide| wide.contains(network))));
    let end = admin.caller().account().and_then(|account| match &account.proof {
        Proof::Secrets { expires_at, .. } => *expires_at,
        Proof::Password(_) => None,
    });
    let ends_in_time = end.is_none_or(|end| expires_at.is_some_and(|other| other <= end));
    if actions.is_subset(&own.actions) && networks_fit && ends_in_time {
        return Ok(());
    }
    let detail =
        format!("{} cannot give another robot more actions, networks or time than it has itself", own.name);
    Err(Problem::new(StatusCode::FORBIDDEN, detail))
}

/// A time, or a duration from now.
fn when(text: &str) -> Result<Timestamp, Problem> {
    let now = Timestamp::now();
    let time = match text.parse::<Span>() {
        Ok(span) => now.after(span.0),
        Err(_no_span) => text
            .parse::<jiff::Timestamp>()
            .map(|time| Timestamp::at(time.as_millisecond()))
            .map_err(|_no_time| {
                Problem::invalid("expires is a duration such as 90d, or a time such as 2030-01-31T00:00:00Z")
            })?,
    };
    if time <= now { Err(Problem::invalid("expires is in the past")) } else { Ok(time) }
}

async fn show(admin: &Admin<'_>, name: &RobotName) -> Answer {
    let row = found(admin, name).await?;
    let version = row.version;
    Ok(versioned(StatusCode::OK, &document(row), version))
}

async fn found(admin: &Admin<'_>, name: &RobotName) -> Result<RobotRow, Problem> {
    let row = admin.database().robot(name).await?;
    row.ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, format!("there is no robot {name}")))
}

fn document(row: RobotRow) -> Document {
    Document {
        name: row.name,
        may: row.actions,
        from: row.networks,
        expires: row.expires_at.map(Timestamp::rfc3339),
        disabled: row.disabled,
        created: row.created_at.rfc3339(),
    }
}
