//! `roadstead member`.

use gossip::access::Role;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{all, path, read, remove, said};
use crate::{
    cli::{Access, MemberCommand},
    command::{
        Verdict,
        api::Api,
        page,
        table::{Side, Table},
        words,
    },
};

#[derive(Deserialize)]
struct Member {
    name: String,
    role: Role,
    since: String,
}

pub(super) async fn run(command: MemberCommand) -> anyhow::Result<Verdict> {
    match command {
        MemberCommand::Add { access, project, name, role } => {
            let role = Role::from(role);
            let new = json!({"project": project, "name": name, "role": role});
            let document: Value = Api::open(&access)?.post("/api/v1/members", &[], Some(&new)).await?;
            said(&access, &document, &format!("{name} is {role} of project {project}"))
        }
        MemberCommand::Rm { access, project, name } => {
            let what = format!("member {name} of project {project}");
            remove(&access, &path("members", &[&project, &name])?, &[], &what).await
        }
        MemberCommand::Ls { access, project } => ls(&access, &project).await,
    }
}

async fn ls(access: &Access, project: &str) -> anyhow::Result<Verdict> {
    let entries = all(&Api::open(access)?, "/api/v1/members", &[("project", project)]).await?;
    if access.json {
        page::print_json(&Value::Array(entries))?;
        return Ok(Verdict::Good);
    }
    let mut table = Table::new(&["MEMBER", "ROLE", "SINCE"].map(|title| (title, Side::Left)));
    for member in read::<Member>(entries)? {
        table.row([member.name, member.role.to_string(), words::ago(&member.since)]);
    }
    page::print(&table.text())?;
    Ok(Verdict::Good)
}
