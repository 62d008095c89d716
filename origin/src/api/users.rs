//! `/users`: made and changed by admins; everybody may see themselves, and change their own password and address.

use gossip::access::{SystemAction, UserName};
use http::{Method, StatusCode};
use oci::http::empty_response;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use super::{
    Answer, Call,
    access::Admin,
    document::{Page, created, expected, read, versioned},
    grammar,
    problem::{Problem, made},
};
use crate::{
    database::users::{NewUser, UserChange, UserRow},
    settings::Secret,
    time::Timestamp,
};

/// The longest e-mail address, in bytes (RFC 5321, section 4.5.3.1.3, without its brackets).
const MAX_EMAIL: usize = 254;

/// A user.
#[derive(JsonSchema, Serialize)]
#[schemars(rename = "User")]
pub(super) struct Document {
    name: String,
    email: Option<String>,
    /// May do everything.
    admin: bool,
    /// May see settings and the audit log.
    auditor: bool,
    disabled: bool,
    created: String,
}

/// A user to be made.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "NewUser")]
pub(super) struct New {
    #[schemars(schema_with = "grammar::user_name")]
    name: String,
    #[schemars(schema_with = "grammar::password")]
    password: Secret,
    #[serde(default)]
    #[schemars(schema_with = "grammar::email_or_none")]
    email: Option<String>,
    #[serde(default)]
    admin: bool,
    #[serde(default)]
    auditor: bool,
}

/// What is to be changed; the rest stays.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "UserChange")]
pub(super) struct Patch {
    #[serde(default)]
    #[schemars(schema_with = "grammar::password_or_none")]
    password: Option<Secret>,
    /// `null` takes it away.
    #[serde(default, deserialize_with = "given")]
    #[schemars(schema_with = "grammar::email_or_none")]
    email: Option<Option<String>>,
    #[serde(default)]
    admin: Option<bool>,
    #[serde(default)]
    auditor: Option<bool>,
    #[serde(default)]
    disabled: Option<bool>,
}

impl Patch {
    /// Whether it is about nothing but what belongs to the user alone.
    fn is_personal(&self) -> bool {
        self.admin.is_none() && self.auditor.is_none() && self.disabled.is_none()
    }
}

/// Tells a `null` from a field that is not there.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

pub(super) async fn all(call: Call<'_>) -> Answer {
    match call.method {
        Method::GET => list(&call).await,
        Method::POST => create(call).await,
        _ => Err(Problem::method_not_allowed("GET, POST")),
    }
}

pub(super) async fn one(call: Call<'_>, name: &str) -> Answer {
    let name: UserName = name.parse()?;
    match call.method {
        Method::GET => {
            if !call.admin.is_user_in_person(name.as_str()) {
                call.admin.need_system(SystemAction::SeeSystem)?;
            }
            show(&call.admin, &name).await
        }
        Method::PATCH => change(call, &name).await,
        Method::DELETE => remove(&call, &name).await,
        _ => Err(Problem::method_not_allowed("GET, PATCH, DELETE")),
    }
}

async fn list(call: &Call<'_>) -> Answer {
    call.admin.need_system(SystemAction::SeeSystem)?;
    let page = Page::of(call)?;
    let rows = call.admin.database().users(&page.after, page.limit + 1).await?;
    Ok(page.answer(rows.into_iter().map(document).collect(), |user| &user.name, "users", None))
}

async fn create(call: Call<'_>) -> Answer {
    call.admin.need_system(SystemAction::ManageSystem)?;
    let new: New = read(&call.parts, call.body).await?;
    let name: UserName = new.name.parse()?;
    check_email(new.email.as_deref())?;
    let password = call.admin.identity().passwords.hash(&new.password, call.admin.caller().from).await?;
    let user = NewUser {
        name: name.as_str(),
        email: new.email.as_deref(),
        password: &password,
        admin: new.admin,
        auditor: new.auditor,
    };
    made(call.admin.database().create_user(&user).await?, &format!("user {name}"))?;
    call.admin.changed();
    let row = found(&call.admin, &name).await?;
    let version = row.version;
    Ok(created(&document(row), version, &format!("users/{name}")))
}

async fn change(call: Call<'_>, name: &UserName) -> Answer {
    let expected = expected(&call)?;
    let in_person = call.admin.is_user_in_person(name.as_str());
    if !in_person {
        call.admin.need_system(SystemAction::ManageSystem)?;
    }
    let patch: Patch = read(&call.parts, call.body).await?;
    if !patch.is_personal() {
        call.admin.need_system(SystemAction::ManageSystem)?;
    }
    check_email(patch.email.as_ref().and_then(|email| email.as_deref()))?;
    // Only users have such names that `user` finds; a robot's is out of their grammar.
    found(&call.admin, name).await?;
    let what = format!("user {name}");
    let password = match &patch.password {
        Some(password) => {
            Some(call.admin.identity().passwords.hash(password, call.admin.caller().from).await?)
        }
        None => None,
    };
    let change = UserChange {
        email: patch.email,
        password,
        admin: patch.admin,
        auditor: patch.auditor,
        disabled: patch.disabled,
    };
    made(call.admin.database().change_user(name.as_str(), &change, expected).await?, &what)?;
    call.admin.changed();
    show(&call.admin, name).await
}

async fn remove(call: &Call<'_>, name: &UserName) -> Answer {
    call.admin.need_system(SystemAction::ManageSystem)?;
    let removed = call.admin.database().remove_account(name.as_str(), expected(call)?).await?;
    made(removed, &format!("user {name}"))?;
    call.admin.changed();
    Ok(empty_response(StatusCode::NO_CONTENT))
}

async fn show(admin: &Admin<'_>, name: &UserName) -> Answer {
    let row = found(admin, name).await?;
    let version = row.version;
    Ok(versioned(StatusCode::OK, &document(row), version))
}

async fn found(admin: &Admin<'_>, name: &UserName) -> Result<UserRow, Problem> {
    let row = admin.database().user(name.as_str()).await?;
    row.ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, format!("there is no user {name}")))
}

fn check_email(email: Option<&str>) -> Result<(), Problem> {
    let plausible = |email: &str| {
        let parts = email.split_once('@').is_some_and(|(local, host)| !local.is_empty() && !host.is_empty());
        parts && email.len() <= MAX_EMAIL && !email.chars().any(|c| c.is_control() || c.is_whitespace())
    };
    if email.is_none_or(plausible) {
        Ok(())
    } else {
        Err(Problem::invalid("email is an address such as ann@example.org"))
    }
}

fn document(row: UserRow) -> Document {
    Document {
        name: row.name,
        email: row.email,
        admin: row.admin != 0,
        auditor: row.auditor != 0,
        disabled: row.disabled != 0,
        created: Timestamp::at(row.created_at).rfc3339(),
    }
}
