//! Who may do what: one pure function, [`decide`], for every route of every node.
//!
//! Permission is per repository, never per digest, and a repository has that of its project, which is the first element
//! of its name. Whoever may not see a project is told the same whether it is there or not. Who somebody is, and what is
//! stored about a project, others find out; nothing here asks a clock, a disk or a network.

mod name;
mod principal;
mod scope;

#[cfg(test)]
mod tests;

use std::net::IpAddr;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use name::{InvalidAccountName, ProjectName, RobotName, UserName};
pub use principal::{Home, Principal, Robot, Role, SystemRoles, User};
pub use scope::{Grant, Resource, Scopes};

/// What somebody wants to do, in a project or in one of its repositories.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Action {
    /// Read: manifests, blobs, tags, referrers.
    Pull,
    /// Write: uploads, manifests, tags.
    Push,
    /// Remove: manifests, tags, blobs, whole repositories.
    Delete,
    /// Know that the project exists, and how it is set.
    See,
    /// Put labels on images.
    Label,
    /// Make, change and remove the project's robots.
    ManageRobots,
    /// Change who is a member, and as what.
    ManageMembers,
    /// Change or remove the project itself.
    ManageProject,
    /// Ask whether a blob or a manifest is there (HEAD): clients do that before they push as well as before they pull.
    Stat,
}

impl Action {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Pull,
        Self::Push,
        Self::Delete,
        Self::See,
        Self::Label,
        Self::ManageRobots,
        Self::ManageMembers,
        Self::ManageProject,
        Self::Stat,
    ];

    /// The role that a member needs for it.
    fn role(self) -> Role {
        match self {
            Self::Pull | Self::See | Self::Stat => Role::Guest,
            Self::Push => Role::Developer,
            Self::Delete | Self::Label | Self::ManageRobots => Role::Maintainer,
            Self::ManageMembers | Self::ManageProject => Role::Owner,
        }
    }

    /// What a token's scope, and a robot's `--may`, have to hold for it: any one of these. Nothing but what is done with
    /// content has such names.
    pub fn contents(self) -> &'static [ContentAction] {
        match self {
            Self::Pull => &[ContentAction::Pull],
            Self::Push => &[ContentAction::Push],
            Self::Delete => &[ContentAction::Delete],
            Self::Stat => &[ContentAction::Pull, ContentAction::Push],
            Self::See | Self::Label | Self::ManageRobots | Self::ManageMembers | Self::ManageProject => &[],
        }
    }

    /// Whether it changes nothing and is open to all where pulling is.
    fn reads(self) -> bool {
        matches!(self, Self::Pull | Self::See | Self::Stat)
    }
}

/// What can be done with content, by the names of the token specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum ContentAction {
    /// `pull`
    Pull,
    /// `push`
    Push,
    /// `delete`
    Delete,
}

impl ContentAction {
    /// All of them, in the order in which they are written.
    pub const ALL: [Self; 3] = [Self::Pull, Self::Push, Self::Delete];

    /// As it stands in scopes, tokens and commands.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "push",
            Self::Delete => "delete",
        }
    }

    /// The action that it names.
    pub fn action(self) -> Action {
        match self {
            Self::Pull => Action::Pull,
            Self::Push => Action::Push,
            Self::Delete => Action::Delete,
        }
    }
}

/// Who may pull without being anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Visibility {
    /// Nobody.
    Private,
    /// Everybody who asks for an anonymous token.
    Public,
}

/// What a decision needs to know of a project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Project {
    /// Its name.
    pub name: ProjectName,
    /// Who may pull without being anybody.
    pub visibility: Visibility,
    /// Clients from these networks may pull without a token: machines behind a mirror, which gets no credentials.
    pub anonymous_networks: Vec<IpNet>,
}

/// What the caller has shown with this request.
#[derive(Clone, Copy, Debug)]
pub enum Shown<'a> {
    /// Nothing.
    Nothing,
    /// A password or a secret, which stands for all that its owner may do.
    Secret,
    /// A token, which stands for no more than is written in it.
    Token(&'a Scopes),
}

/// The question that [`decide`] answers.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// Who asks.
    pub principal: &'a Principal,
    /// What was shown for that.
    pub shown: Shown<'a>,
    /// Where the request comes from, where that is known.
    pub from: Option<IpAddr>,
    /// The repository, or `project/` for the project itself: what a token's scopes are compared with.
    pub resource: Resource<'a>,
    /// The project, if there is one.
    pub project: Option<&'a Project>,
    /// What the caller is in it.
    pub role: Option<Role>,
    /// What is asked for.
    pub action: Action,
}

/// The answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Go on.
    Allow,
    /// Show more than was shown: the caller is told where tokens are had.
    Challenge(Challenge),
    /// No, and showing more of the same principal does not help.
    Deny(Denial),
}

/// Why more has to be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Challenge {
    /// Nobody has said who is asking.
    Credentials,
    /// The token does not hold what its owner might have.
    Scope,
}

/// Why it is no.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// There is no such project, or none that the caller may know of: one answer for both.
    Unseen,
    /// There is no such project, and the caller may know that.
    Missing,
    /// The caller is a member, or anybody where the project is public, and that is not enough.
    Role {
        /// What the caller would have to be.
        needed: Role,
    },
    /// The robot's own list of actions does not have it.
    NotAmongActions,
    /// It is for admins, or for auditors too.
    System,
    /// The robot may not come from there.
    Network,
}

/// Decides. The same question has the same answer everywhere, so an answer may be kept for as long as its question holds.
pub fn decide(question: &Question<'_>) -> Decision {
    let verdict = match question.principal {
        Principal::Everybody => return Decision::Allow,
        Principal::Anonymous => return decide_anonymous(question),
        Principal::User(user) => user_may(user, question),
        Principal::Robot(robot) => robot_may(robot, question),
    };
    match verdict {
        Err(denial) => Decision::Deny(denial),
        Ok(()) => match question.shown {
            Shown::Token(scopes) if !scopes.hold(question.resource, question.action) => {
                Decision::Challenge(Challenge::Scope)
            }
            Shown::Token(_) | Shown::Secret => Decision::Allow,
            // A principal is known by what it has shown.
            Shown::Nothing => Decision::Challenge(Challenge::Credentials),
        },
    }
}

/// Whether somebody may know that this is a registry at all (`/v2/`): whoever shows anything that counts.
pub fn decide_presence(principal: &Principal, shown: Shown<'_>, from: Option<IpAddr>) -> Decision {
    match (principal, shown) {
        (Principal::Everybody, _) => Decision::Allow,
        (_, Shown::Nothing) => Decision::Challenge(Challenge::Credentials),
        (Principal::Robot(robot), _) if !robot.comes_from_its_networks(from) => {
            Decision::Deny(Denial::Network)
        }
        (_, Shown::Secret | Shown::Token(_)) => Decision::Allow,
    }
}

/// Whether somebody may have a list of repositories. What is in it is decided for each project.
pub fn decide_catalog(principal: &Principal, shown: Shown<'_>, from: Option<IpAddr>) -> Decision {
    match (decide_presence(principal, shown, from), shown) {
        (Decision::Allow, Shown::Token(scopes)) if !scopes.hold_catalog() => {
            Decision::Challenge(Challenge::Scope)
        }
        (decision, _) => decision,
    }
}

/// What somebody wants to do that is in no project.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SystemAction {
    /// Make a project.
    CreateProject,
    /// Know the users, the robots of the system and the settings.
    SeeSystem,
    /// Make, change and remove users and the robots of the system.
    ManageSystem,
}

/// Whether somebody may do something that is in no project: admins, and auditors as far as they only look.
pub fn decide_system(
    principal: &Principal,
    shown: Shown<'_>,
    from: Option<IpAddr>,
    action: SystemAction,
) -> Decision {
    let user = match (principal, decide_administration(principal, shown, from)) {
        (Principal::User(user), Decision::Allow) => user,
        (Principal::Everybody, decision) => return decision,
        (Principal::Anonymous | Principal::Robot(_), Decision::Allow) => {
            return Decision::Deny(Denial::System);
        }
        (_, decision) => return decision,
    };
    match action {
        _ if user.roles.admin => Decision::Allow,
        SystemAction::SeeSystem if user.roles.auditor => Decision::Allow,
        SystemAction::SeeSystem | SystemAction::CreateProject | SystemAction::ManageSystem => {
            Decision::Deny(Denial::System)
        }
    }
}

/// Whether somebody may use the administration API at all; what for is decided one by one.
pub fn decide_administration(principal: &Principal, shown: Shown<'_>, from: Option<IpAddr>) -> Decision {
    match (decide_presence(principal, shown, from), shown) {
        (Decision::Allow, _) if *principal == Principal::Anonymous => {
            Decision::Challenge(Challenge::Credentials)
        }
        (Decision::Allow, Shown::Token(scopes)) if !scopes.hold_administration() => {
            Decision::Challenge(Challenge::Scope)
        }
        (decision, _) => decision,
    }
}

fn decide_anonymous(question: &Question<'_>) -> Decision {
    let Some(project) = question.project.filter(|_| question.action.reads()) else {
        return Decision::Challenge(Challenge::Credentials);
    };
    if is_within(question.from, &project.anonymous_networks) {
        return Decision::Allow;
    }
    match (project.visibility, question.shown) {
        (Visibility::Private, _) | (Visibility::Public, Shown::Nothing) => {
            Decision::Challenge(Challenge::Credentials)
        }
        (Visibility::Public, Shown::Token(scopes)) if !scopes.hold(question.resource, question.action) => {
            Decision::Challenge(Challenge::Scope)
        }
        (Visibility::Public, Shown::Token(_) | Shown::Secret) => Decision::Allow,
    }
}

fn user_may(user: &User, question: &Question<'_>) -> Result<(), Denial> {
    if user.roles.admin {
        return question.project.map(drop).ok_or(Denial::Missing);
    }
    if !user.roles.auditor {
        return member_may(question);
    }
    match (question.project, member_may(question)) {
        (None, _) => Err(Denial::Missing),
        (Some(_), _) if question.action == Action::See => Ok(()),
        // Auditors know what there is.
        (Some(_), Err(Denial::Unseen)) => Err(Denial::Role { needed: question.action.role() }),
        (Some(_), verdict) => verdict,
    }
}

fn robot_may(robot: &Robot, question: &Question<'_>) -> Result<(), Denial> {
    if !robot.comes_from_its_networks(question.from) {
        return Err(Denial::Network);
    }
    let at_home = match &robot.home {
        Home::System => match question.project {
            None => return Err(Denial::Missing),
            Some(_) => true,
        },
        Home::Project(home) => question.project.is_some_and(|project| project.name == *home),
    };
    let contents = question.action.contents();
    let listed = contents.is_empty() || contents.iter().any(|action| robot.actions.contains(action));
    if at_home && (question.action == Action::See || (!contents.is_empty() && listed)) {
        return Ok(());
    }
    match member_may(question) {
        // A role does not widen what the robot was made for.
        Ok(()) if listed || is_open_to_all(question) => Ok(()),
        Ok(()) => Err(Denial::NotAmongActions),
        Err(_) if at_home && !contents.is_empty() => Err(Denial::NotAmongActions),
        Err(Denial::Unseen) if at_home => Err(Denial::Role { needed: question.action.role() }),
        Err(denial) => Err(denial),
    }
}

/// What a member may, and what anybody may where the project is public.
fn member_may(question: &Question<'_>) -> Result<(), Denial> {
    let Some(project) = question.project else { return Err(Denial::Unseen) };
    let needed = question.action.role();
    if question.role.is_some_and(|role| role >= needed) || is_open_to_all(question) {
        return Ok(());
    }
    match (question.role, project.visibility) {
        (Some(_), _) | (None, Visibility::Public) => Err(Denial::Role { needed }),
        (None, Visibility::Private) => Err(Denial::Unseen),
    }
}

/// Whether anonymous clients could do it too: nobody has less by saying who they are.
fn is_open_to_all(question: &Question<'_>) -> bool {
    question.action.reads()
        && question.project.is_some_and(|project| {
            project.visibility == Visibility::Public || is_within(question.from, &project.anonymous_networks)
        })
}

/// Whether an address is known and in one of the networks. IPv4 in IPv6 counts as IPv4.
pub fn is_within(address: Option<IpAddr>, networks: &[IpNet]) -> bool {
    address.is_some_and(|address| {
        let address = address.to_canonical();
        networks.iter().any(|network| network.contains(&address))
    })
}
