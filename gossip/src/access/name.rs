//! The names of projects, users and robots. Each is parsed once; no two of different kinds are ever the same text, but a
//! project's and a user's, which never stand in one place.

use std::{fmt, str::FromStr};

use oci::name::RepositoryName;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The longest name of a user, and of a robot within its project, in bytes.
const MAX_NAME: usize = 64;
/// The longest name of a project, in bytes: it leaves room for a repository in it.
const MAX_PROJECT: usize = 128;
/// What stands in a robot's name in the place of a project, for a robot of the system; no project is called so.
pub(super) const SYSTEM: &str = "system";

/// Why a text is no name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAccountName {
    /// Not a path element of the distribution specification.
    #[error(
        "the name of a project is one path element: 1 to {MAX_PROJECT} lower-case letters and digits, joined inside by one of . _ __ or dashes"
    )]
    Project,
    /// Not `[a-z0-9]([a-z0-9._@-]*[a-z0-9])?`.
    #[error(
        "the name of a user is 1 to {MAX_NAME} lower-case letters and digits, and inside also . _ @ and dashes"
    )]
    User,
    /// Not a project (or `system`), a plus and a name.
    #[error(
        "the name of a robot is PROJECT+NAME or {SYSTEM}+NAME; NAME is 1 to {MAX_NAME} lower-case letters and digits, and inside also . _ and dashes"
    )]
    Robot,
}

/// The name of a project: the first element of the names of its repositories.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProjectName(Box<str>);

impl ProjectName {
    /// The project that a repository is in; `None` where the element is longer than a project's name may be.
    pub fn of(repository: &RepositoryName) -> Option<Self> {
        repository.project().parse().ok()
    }
}

impl FromStr for ProjectName {
    type Err = InvalidAccountName;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let one_element = !s.contains('/') && s.parse::<RepositoryName>().is_ok();
        if one_element && s.len() <= MAX_PROJECT {
            Ok(Self(s.into()))
        } else {
            Err(InvalidAccountName::Project)
        }
    }
}

/// The name of a person.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserName(Box<str>);

impl FromStr for UserName {
    type Err = InvalidAccountName;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        if is_name(s, "._@-") { Ok(Self(s.into())) } else { Err(InvalidAccountName::User) }
    }
}

/// The name of a robot, as it logs in: `project+name`, or `system+name`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RobotName(Box<str>);

impl RobotName {
    /// The project that it is of; `None` for a robot of the system.
    pub fn project(&self) -> Option<ProjectName> {
        let (project, _) = self.0.split_once('+')?;
        if project == SYSTEM { None } else { project.parse().ok() }
    }
}

impl FromStr for RobotName {
    type Err = InvalidAccountName;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let ok = s
            .split_once('+')
            .is_some_and(|(project, name)| project.parse::<ProjectName>().is_ok() && is_name(name, "._-"));
        if ok { Ok(Self(s.into())) } else { Err(InvalidAccountName::Robot) }
    }
}

fn is_name(text: &str, inside: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    text.len() <= MAX_NAME
        && bytes.first().copied().is_some_and(plain)
        && bytes.last().copied().is_some_and(plain)
        && bytes.iter().all(|b| plain(*b) || inside.as_bytes().contains(b))
}

macro_rules! text_type {
    ($name:ident) => {
        impl $name {
            /// The whole name.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

text_type!(ProjectName);
text_type!(UserName);
text_type!(RobotName);
