//! Who a request is from.

use std::{collections::BTreeSet, fmt, net::IpAddr, str::FromStr};

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ContentAction, ProjectName, RobotName, UserName, is_within};

/// Who a request is from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Principal {
    /// The node asks nobody who they are (`--no-auth`).
    Everybody,
    /// Somebody who has not said who they are.
    Anonymous,
    /// A person.
    User(User),
    /// A program.
    Robot(Robot),
}

impl Principal {
    /// The name to log in with; `anonymous` and `everybody` for those who did not.
    pub fn name(&self) -> &str {
        match self {
            Self::Everybody => "everybody",
            Self::Anonymous => "anonymous",
            Self::User(user) => user.name.as_str(),
            Self::Robot(robot) => robot.name.as_str(),
        }
    }
}

/// A person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The name to log in with.
    pub name: UserName,
    /// What the person may in all projects.
    pub roles: SystemRoles,
}

/// What somebody may in all projects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SystemRoles {
    /// Everything.
    pub admin: bool,
    /// See settings and the audit log; no images.
    pub auditor: bool,
}

/// A program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Robot {
    /// The name to log in with.
    pub name: RobotName,
    /// Where its actions count.
    pub home: Home,
    /// What it was made to do; a role elsewhere does not add to it.
    pub actions: BTreeSet<ContentAction>,
    /// Where it may come from; anywhere, where empty.
    pub networks: Vec<IpNet>,
}

impl Robot {
    /// Whether it may come from an address; anywhere is fine where it has no networks.
    pub fn comes_from_its_networks(&self, from: Option<IpAddr>) -> bool {
        self.networks.is_empty() || is_within(from, &self.networks)
    }
}

/// Where a robot's actions count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Home {
    /// In every project.
    System,
    /// In this one.
    Project(ProjectName),
}

/// What a member of a project is; each may what those before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum Role {
    /// Pulls.
    Guest,
    /// Pushes.
    Developer,
    /// Deletes, labels, makes robots.
    Maintainer,
    /// Chooses members, changes the project.
    Owner,
}

/// A text is no role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a role is guest, developer, maintainer or owner")]
pub struct InvalidRole;

impl Role {
    /// All of them, the least first.
    pub const ALL: [Self; 4] = [Self::Guest, Self::Developer, Self::Maintainer, Self::Owner];

    /// As it is stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Guest => "guest",
            Self::Developer => "developer",
            Self::Maintainer => "maintainer",
            Self::Owner => "owner",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = InvalidRole;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|role| role.as_str() == s).ok_or(InvalidRole)
    }
}
