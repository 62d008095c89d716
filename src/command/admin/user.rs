//! `roadstead user`.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{all, path, read, remove, said, yes};
use crate::{
    cli::{Access, UserCommand},
    command::{
        Verdict,
        api::Api,
        login::password,
        page,
        table::{Side, Table},
    },
};

#[derive(Deserialize)]
struct User {
    name: String,
    email: Option<String>,
    admin: bool,
    auditor: bool,
    disabled: bool,
}

pub(super) async fn run(command: UserCommand) -> anyhow::Result<Verdict> {
    match command {
        UserCommand::Create { access, name, email, admin, auditor, .. } => {
            let password = password()?;
            let new = json!({"name": name, "password": password, "email": email, "admin": admin, "auditor": auditor});
            let document: Value = Api::open(&access)?.post("/api/v1/users", &[], Some(&new)).await?;
            said(&access, &document, &format!("user {name} is made"))
        }
        UserCommand::Set { access, name, email, admin, auditor } => {
            let mut change = json!({});
            for (key, value) in
                [("email", json!(email)), ("admin", json!(admin)), ("auditor", json!(auditor))]
            {
                if !value.is_null() {
                    change[key] = value;
                }
            }
            anyhow::ensure!(change != json!({}), "say what to set: --email, --admin, --auditor");
            set(&access, &name, &change, "is changed").await
        }
        UserCommand::Passwd { access, name, .. } => {
            let change = json!({"password": password()?});
            set(&access, &name, &change, "has another password; what was had with the one before is void")
                .await
        }
        UserCommand::Disable { access, name } => {
            set(&access, &name, &json!({"disabled": true}), "is shut out").await
        }
        UserCommand::Enable { access, name } => {
            set(&access, &name, &json!({"disabled": false}), "may log in").await
        }
        UserCommand::Rm { access, name } => {
            remove(&access, &path("users", &[&name])?, &[], &format!("user {name}")).await
        }
        UserCommand::Ls { access } => ls(&access).await,
        UserCommand::Show { access, name } => {
            let document: Value = Api::open(&access)?.get(&path("users", &[&name])?, &[]).await?;
            let user = User::deserialize(&document)?;
            let lines = format!(
                "user      {}\ne-mail    {}\nroles     {}\ndisabled  {}",
                user.name,
                user.email.as_deref().unwrap_or("none"),
                roles(&user),
                if user.disabled { "yes" } else { "no" },
            );
            said(&access, &document, &lines)
        }
    }
}

async fn set(access: &Access, name: &str, change: &Value, line: &str) -> anyhow::Result<Verdict> {
    let document: Value = Api::open(access)?.patch(&path("users", &[name])?, change).await?;
    said(access, &document, &format!("user {name} {line}"))
}

async fn ls(access: &Access) -> anyhow::Result<Verdict> {
    let entries = all(&Api::open(access)?, "/api/v1/users", &[]).await?;
    if access.json {
        page::print_json(&Value::Array(entries))?;
        return Ok(Verdict::Good);
    }
    let columns = ["USER", "E-MAIL", "ROLES", "DISABLED"].map(|title| (title, Side::Left));
    let mut table = Table::new(&columns);
    for user in read::<User>(entries)? {
        let roles = roles(&user);
        table.row([user.name, user.email.unwrap_or_default(), roles, yes(user.disabled)]);
    }
    page::print(&table.text())?;
    Ok(Verdict::Good)
}

fn roles(user: &User) -> String {
    let roles = [(user.admin, "admin"), (user.auditor, "auditor")];
    let held: Vec<_> = roles.into_iter().filter_map(|(held, role)| held.then_some(role)).collect();
    held.join(", ")
}
