//! `roadstead robot`.

use gossip::access::ContentAction;
use ipnet::IpNet;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{all, path, read, remove, said, yes};
use crate::{
    cli::{Access, RobotCommand},
    command::{
        Verdict,
        api::Api,
        page,
        table::{Side, Table},
        words,
    },
};

#[derive(Deserialize)]
struct Robot {
    name: String,
    may: Vec<ContentAction>,
    from: Vec<IpNet>,
    expires: Option<String>,
    disabled: bool,
}

/// What is shown once.
#[derive(Deserialize)]
struct Given {
    name: String,
    secret: String,
}

pub(super) async fn run(command: RobotCommand) -> anyhow::Result<Verdict> {
    match command {
        RobotCommand::Create { access, name, may, expires, from } => {
            let new = json!({"name": name, "may": may, "expires": expires, "from": from});
            let document: Value = Api::open(&access)?.post("/api/v1/robots", &[], Some(&new)).await?;
            given(&access, &document)
        }
        RobotCommand::Rotate { access, name, overlap } => {
            let path = format!("{}/rotate", path("robots", &[&name])?);
            let rotation = json!({"overlap": overlap});
            let document: Value = Api::open(&access)?.post(&path, &[], Some(&rotation)).await?;
            given(&access, &document)
        }
        RobotCommand::Disable { access, name } => set_disabled(&access, &name, true, "is shut out").await,
        RobotCommand::Enable { access, name } => set_disabled(&access, &name, false, "may log in").await,
        RobotCommand::Rm { access, name } => {
            remove(&access, &path("robots", &[&name])?, &[], &format!("robot {name}")).await
        }
        RobotCommand::Ls { access, project } => ls(&access, project.as_deref()).await,
        RobotCommand::Show { access, name } => show(&access, &name).await,
    }
}

/// The secret alone on standard output, so that a script can take it; what to do with it beside.
fn given(access: &Access, document: &Value) -> anyhow::Result<Verdict> {
    let Given { name, secret } = Given::deserialize(document)?;
    if !access.json {
        page::tell(&format!("log in as {name} with this secret, which is not shown again:"));
    }
    said(access, document, &secret)
}

async fn set_disabled(access: &Access, name: &str, disabled: bool, line: &str) -> anyhow::Result<Verdict> {
    let change = json!({"disabled": disabled});
    let document: Value = Api::open(access)?.patch(&path("robots", &[name])?, &change).await?;
    said(access, &document, &format!("robot {name} {line}"))
}

async fn ls(access: &Access, project: Option<&str>) -> anyhow::Result<Verdict> {
    let filter: Vec<_> = project.map(|project| ("project", project)).into_iter().collect();
    let entries = all(&Api::open(access)?, "/api/v1/robots", &filter).await?;
    if access.json {
        page::print_json(&Value::Array(entries))?;
        return Ok(Verdict::Good);
    }
    let columns = ["ROBOT", "MAY", "FROM", "EXPIRES", "DISABLED"].map(|title| (title, Side::Left));
    let mut table = Table::new(&columns);
    for robot in read::<Robot>(entries)? {
        let (may, from, expires) = (may(&robot), from(&robot), expires(&robot));
        table.row([robot.name, may, from, expires, yes(robot.disabled)]);
    }
    page::print(&table.text())?;
    Ok(Verdict::Good)
}

async fn show(access: &Access, name: &str) -> anyhow::Result<Verdict> {
    let document: Value = Api::open(access)?.get(&path("robots", &[name])?, &[]).await?;
    let robot = Robot::deserialize(&document)?;
    let lines = format!(
        "robot     {}\nmay       {}\nfrom      {}\nexpires   {}\ndisabled  {}",
        robot.name,
        may(&robot),
        from(&robot),
        expires(&robot),
        if robot.disabled { "yes" } else { "no" },
    );
    said(access, &document, &lines)
}

fn may(robot: &Robot) -> String {
    robot.may.iter().map(|action| action.as_str()).collect::<Vec<_>>().join(",")
}

fn from(robot: &Robot) -> String {
    if robot.from.is_empty() {
        return "anywhere".to_owned();
    }
    robot.from.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn expires(robot: &Robot) -> String {
    robot.expires.as_deref().map_or_else(|| "never".to_owned(), words::ago)
}
