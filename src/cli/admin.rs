//! What the commands take that administer an origin: projects, users, members, robots.

use clap::{Args, Subcommand, ValueEnum};
use gossip::access::{ContentAction, Role};
use ipnet::IpNet;
use oci::settings::Span;

use super::Access;

#[derive(Debug, Subcommand)]
pub(crate) enum Admin {
    /// Make, change and remove projects: the first element of repositories' names, with members and a setting for all of it
    #[command(subcommand)]
    Project(ProjectCommand),
    /// Make, change and remove people
    #[command(subcommand)]
    User(UserCommand),
    /// Say who is what in a project
    #[command(subcommand)]
    Member(MemberCommand),
    /// Make, change and remove programs that log in, such as a CI
    #[command(subcommand)]
    Robot(RobotCommand),
}

#[derive(Debug, Subcommand)]
pub(crate) enum ProjectCommand {
    /// Make a project
    Create {
        #[command(flatten)]
        access: Access,
        name: String,
        /// Let anybody pull
        #[arg(long)]
        public: bool,
        /// Let clients of this network pull without saying who they are; may be given several times
        #[arg(long, value_name = "CIDR")]
        anonymous_from: Vec<IpNet>,
    },
    /// Change a project
    Set {
        #[command(flatten)]
        access: Access,
        name: String,
        /// Whether anybody may pull
        #[arg(long, value_name = "true|false", action = clap::ArgAction::Set)]
        public: Option<bool>,
        /// Let clients of these networks, and of no others, pull without saying who they are; `none` for nobody
        #[arg(long, value_name = "CIDR")]
        anonymous_from: Vec<Network>,
    },
    /// List the projects that you may see
    Ls {
        #[command(flatten)]
        access: Access,
    },
    /// Show a project
    Show {
        #[command(flatten)]
        access: Access,
        name: String,
    },
    /// Remove a project, its robots and memberships
    Rm {
        #[command(flatten)]
        access: Access,
        name: String,
        /// And the images in it
        #[arg(long)]
        with_images: bool,
    },
}

/// A network, or the word for none.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Network {
    None,
    Of(IpNet),
}

impl std::str::FromStr for Network {
    type Err = ipnet::AddrParseError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        if s == "none" { Ok(Self::None) } else { IpNet::from_str(s).map(Self::Of) }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum UserCommand {
    /// Make a user
    Create {
        #[command(flatten)]
        access: Access,
        name: String,
        #[command(flatten)]
        password: PasswordFlags,
        #[arg(long, value_name = "ADDRESS")]
        email: Option<String>,
        /// May do everything
        #[arg(long)]
        admin: bool,
        /// May see settings and the audit log
        #[arg(long)]
        auditor: bool,
    },
    /// Change a user
    Set {
        #[command(flatten)]
        access: Access,
        name: String,
        #[arg(long, value_name = "ADDRESS")]
        email: Option<String>,
        /// Whether they may do everything
        #[arg(long, value_name = "true|false", action = clap::ArgAction::Set)]
        admin: Option<bool>,
        /// Whether they may see settings and the audit log
        #[arg(long, value_name = "true|false", action = clap::ArgAction::Set)]
        auditor: Option<bool>,
    },
    /// Give a user another password; what was had with the one before is void
    Passwd {
        #[command(flatten)]
        access: Access,
        name: String,
        #[command(flatten)]
        password: PasswordFlags,
    },
    /// Shut a user out
    Disable {
        #[command(flatten)]
        access: Access,
        name: String,
    },
    /// Let a user in again
    Enable {
        #[command(flatten)]
        access: Access,
        name: String,
    },
    /// Remove a user
    Rm {
        #[command(flatten)]
        access: Access,
        name: String,
    },
    /// List the users
    Ls {
        #[command(flatten)]
        access: Access,
    },
    /// Show a user
    Show {
        #[command(flatten)]
        access: Access,
        name: String,
    },
}

#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct PasswordFlags {
    /// Read the password from standard input
    #[arg(long, required = true)]
    pub(crate) password_stdin: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum MemberCommand {
    /// Make a user or a robot a member, or give a member another role
    Add {
        #[command(flatten)]
        access: Access,
        project: String,
        name: String,
        /// guest pulls; developer pushes; maintainer deletes, labels and makes robots; owner chooses members
        role: MemberRole,
    },
    /// End a membership
    Rm {
        #[command(flatten)]
        access: Access,
        project: String,
        name: String,
    },
    /// List the members of a project
    Ls {
        #[command(flatten)]
        access: Access,
        project: String,
    },
}

/// What a member can be.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum MemberRole {
    Guest,
    Developer,
    Maintainer,
    Owner,
}

impl From<MemberRole> for Role {
    fn from(role: MemberRole) -> Self {
        match role {
            MemberRole::Guest => Self::Guest,
            MemberRole::Developer => Self::Developer,
            MemberRole::Maintainer => Self::Maintainer,
            MemberRole::Owner => Self::Owner,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum RobotCommand {
    /// Make a robot, and print the secret that it logs in with: it is shown this once
    Create {
        #[command(flatten)]
        access: Access,
        /// PROJECT+NAME, or system+NAME for all projects: the name to log in with
        #[arg(value_name = "PROJECT+NAME")]
        name: String,
        /// What it may: pull, push, delete, with commas between
        #[arg(long, value_name = "ACTION", required = true, value_delimiter = ',', value_parser = content_action)]
        may: Vec<ContentAction>,
        /// When it ends: a duration from now, such as 90d, or a time (RFC 3339); never, by default
        #[arg(long, value_name = "WHEN")]
        expires: Option<String>,
        /// Where it may come from, its tokens too; may be given several times; anywhere, by default
        #[arg(long, value_name = "CIDR")]
        from: Vec<IpNet>,
    },
    /// Give a robot another secret, and print it; the one before counts a while longer
    Rotate {
        #[command(flatten)]
        access: Access,
        name: String,
        /// How long the secret before counts; 0s makes it void at once
        #[arg(long, value_name = "DURATION", default_value = "1h")]
        overlap: Span,
    },
    /// Shut a robot out
    Disable {
        #[command(flatten)]
        access: Access,
        name: String,
    },
    /// Let a robot in again
    Enable {
        #[command(flatten)]
        access: Access,
        name: String,
    },
    /// Remove a robot
    Rm {
        #[command(flatten)]
        access: Access,
        name: String,
    },
    /// List the robots that you may manage, of a project or all
    Ls {
        #[command(flatten)]
        access: Access,
        project: Option<String>,
    },
    /// Show a robot
    Show {
        #[command(flatten)]
        access: Access,
        name: String,
    },
}

fn content_action(text: &str) -> Result<ContentAction, String> {
    let found = ContentAction::ALL.into_iter().find(|action| action.as_str() == text);
    found.ok_or_else(|| "a robot may pull, push or delete".to_owned())
}
