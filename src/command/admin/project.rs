//! `roadstead project`.

use ipnet::IpNet;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{all, path, read, remove, said, yes};
use crate::{
    cli::{Access, Network, ProjectCommand},
    command::{
        Verdict,
        api::Api,
        page,
        table::{Side, Table},
        words,
    },
};

#[derive(Deserialize)]
struct Project {
    name: String,
    public: bool,
    anonymous_networks: Vec<IpNet>,
    repositories: u64,
    bytes: u64,
}

pub(super) async fn run(command: ProjectCommand) -> anyhow::Result<Verdict> {
    match command {
        ProjectCommand::Create { access, name, public, anonymous_from } => {
            let new = json!({"name": name, "public": public, "anonymous_networks": anonymous_from});
            let document: Value = Api::open(&access)?.post("/api/v1/projects", &[], Some(&new)).await?;
            said(&access, &document, &format!("project {name} is made; push to {name}/…"))
        }
        ProjectCommand::Set { access, name, public, anonymous_from } => {
            set(&access, &name, public, &anonymous_from).await
        }
        ProjectCommand::Ls { access } => ls(&access).await,
        ProjectCommand::Show { access, name } => show(&access, &name).await,
        ProjectCommand::Rm { access, name, with_images } => {
            let query: &[_] = if with_images { &[("with_images", "true")] } else { &[] };
            remove(&access, &path("projects", &[&name])?, query, &format!("project {name}")).await
        }
    }
}

async fn set(
    access: &Access,
    name: &str,
    public: Option<bool>,
    anonymous_from: &[Network],
) -> anyhow::Result<Verdict> {
    let mut change = json!({});
    if let Some(public) = public {
        change["public"] = json!(public);
    }
    if !anonymous_from.is_empty() {
        let networks = anonymous_from.iter().filter_map(|network| match network {
            Network::None => None,
            Network::Of(network) => Some(*network),
        });
        change["anonymous_networks"] = json!(networks.collect::<Vec<_>>());
    }
    anyhow::ensure!(change != json!({}), "say what to set: --public true, --anonymous-from CIDR");
    let document: Value = Api::open(access)?.patch(&path("projects", &[name])?, &change).await?;
    said(access, &document, &format!("project {name} is changed"))
}

async fn ls(access: &Access) -> anyhow::Result<Verdict> {
    let entries = all(&Api::open(access)?, "/api/v1/projects", &[]).await?;
    if access.json {
        page::print_json(&Value::Array(entries))?;
        return Ok(Verdict::Good);
    }
    let mut table = Table::new(&[
        ("PROJECT", Side::Left),
        ("PUBLIC", Side::Left),
        ("REPOSITORIES", Side::Right),
        ("SIZE", Side::Right),
    ]);
    for project in read::<Project>(entries)? {
        table.row([
            project.name,
            yes(project.public),
            project.repositories.to_string(),
            words::size(project.bytes),
        ]);
    }
    page::print(&table.text())?;
    Ok(Verdict::Good)
}

async fn show(access: &Access, name: &str) -> anyhow::Result<Verdict> {
    let document: Value = Api::open(access)?.get(&path("projects", &[name])?, &[]).await?;
    let project = Project::deserialize(&document)?;
    let networks: Vec<String> = project.anonymous_networks.iter().map(ToString::to_string).collect();
    let open = match (project.public, networks.is_empty()) {
        (true, _) => "anybody".to_owned(),
        (false, true) => "members only".to_owned(),
        (false, false) => format!("members, and clients of {}", networks.join(", ")),
    };
    let size = words::size(project.bytes);
    let lines = format!(
        "project       {}\npulled by     {open}\nrepositories  {}\nsize          {size}",
        project.name, project.repositories
    );
    said(access, &document, &lines)
}
