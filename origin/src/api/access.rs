//! Who may use the API, and for what.

use gossip::access::{
    Action, Challenge, Decision, Denial, Principal, ProjectName, Question, Resource, Shown, SystemAction,
    decide, decide_administration, decide_system,
};
use http::{HeaderValue, StatusCode, header, request::Parts};
use oci::error::ApiError;

use super::problem::Problem;
use crate::{
    database::{Database, projects::Standing},
    identity::{AuthError, Caller, Identity, LoginError},
    routes::{Registry, gate::address, refusal},
    settings::RegistrySettings,
};

/// A caller whom the API listens to.
pub(super) struct Admin<'a> {
    registry: &'a Registry,
    caller: Caller,
    challenges: [HeaderValue; 2],
}

impl<'a> Admin<'a> {
    /// Finds out who is asking. Nobody is nobody's administrator.
    pub(super) async fn admit(registry: &'a Registry, parts: &Parts) -> Result<Self, Problem> {
        let identity = &registry.gate.identity;
        let bearer = refusal::Challenger::new(identity, &parts.headers).administration();
        let challenges = [HeaderValue::from_static("Basic realm=\"roadstead\""), bearer];
        let from = address(parts);
        let caller = match registry.gate.caller(&parts.headers, from).await {
            Ok(caller) => caller,
            Err(error) => return Err(unknown(&error, challenges)),
        };
        let admin = Self { registry, caller, challenges };
        admin.answer(decide_administration(admin.caller.principal(), admin.caller.shown(), from), None)?;
        Ok(admin)
    }

    pub(super) fn registry(&self) -> &'a Registry {
        self.registry
    }

    pub(super) fn database(&self) -> &'a Database {
        &self.registry.database
    }

    pub(super) fn identity(&self) -> &'a Identity {
        &self.registry.gate.identity
    }

    pub(super) fn settings(&self) -> &'a RegistrySettings {
        &self.registry.settings
    }

    pub(super) fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Something was changed.
    pub(super) fn changed(&self) {
        self.identity().directory.forget();
    }

    /// Whether the caller is this user, and has shown the password itself.
    pub(super) fn is_user_in_person(&self, name: &str) -> bool {
        let is_user = matches!(self.caller.principal(), Principal::User(user) if user.name.as_str() == name);
        is_user && matches!(self.caller.shown(), Shown::Secret)
    }

    /// Goes on if the caller may do that in the system.
    pub(super) fn need_system(&self, action: SystemAction) -> Result<(), Problem> {
        self.answer(self.decide_system(action), None)
    }

    /// Whether the caller may do that in the system.
    pub(super) fn may_system(&self, action: SystemAction) -> bool {
        self.decide_system(action) == Decision::Allow
    }

    fn decide_system(&self, action: SystemAction) -> Decision {
        decide_system(self.caller.principal(), self.caller.shown(), self.caller.from, action)
    }

    /// Goes on if the caller may do that in a project, which then exists.
    pub(super) async fn need(&self, project: &ProjectName, action: Action) -> Result<(), Problem> {
        self.answer(self.decide(project, action).await?, Some(project))
    }

    /// Whether the caller may do that in a project.
    pub(super) async fn may(&self, project: &ProjectName, action: Action) -> Result<bool, Problem> {
        Ok(self.decide(project, action).await? == Decision::Allow)
    }

    /// Whether the caller may do that in a project of which it is known what the caller is in it.
    pub(super) fn may_with(&self, standing: &Standing, action: Action) -> bool {
        self.decide_with(&standing.project.name, Some(standing), action) == Decision::Allow
    }

    async fn decide(&self, project: &ProjectName, action: Action) -> Result<Decision, Problem> {
        let standing = self.identity().directory.standing(project, self.caller.id()).await;
        let standing = standing.map_err(|error| ApiError::from(&*error))?;
        Ok(self.decide_with(project, standing.as_deref(), action))
    }

    fn decide_with(&self, project: &ProjectName, standing: Option<&Standing>, action: Action) -> Decision {
        if standing.is_none() && *self.caller.principal() == Principal::Everybody {
            return Decision::Deny(Denial::Missing);
        }
        decide(&Question {
            principal: self.caller.principal(),
            shown: self.caller.shown(),
            from: self.caller.from,
            resource: Resource::Project(project),
            project: standing.map(|standing| &standing.project),
            role: standing.and_then(|standing| standing.role),
            action,
        })
    }

    /// The one map from decisions to what the API says.
    fn answer(&self, decision: Decision, project: Option<&ProjectName>) -> Result<(), Problem> {
        let name = self.caller.principal().name();
        let (status, detail) = match decision {
            Decision::Allow => return Ok(()),
            Decision::Challenge(Challenge::Credentials) => {
                return Err(self.challenge("say who you are; `roadstead login` remembers it"));
            }
            Decision::Challenge(Challenge::Scope) => {
                return Err(self.challenge("this token is not for the administration API"));
            }
            Decision::Deny(Denial::Unseen | Denial::Missing) => (
                StatusCode::NOT_FOUND,
                format!(
                    "there is no project {}, or none that {name} may see",
                    project.map_or("", ProjectName::as_str)
                ),
            ),
            Decision::Deny(Denial::Role { needed }) => {
                (StatusCode::FORBIDDEN, format!("{name} would have to be {needed} of the project for this"))
            }
            Decision::Deny(Denial::NotAmongActions) => {
                (StatusCode::FORBIDDEN, format!("the robot {name} was not made for this; see its --may"))
            }
            Decision::Deny(Denial::System) => {
                (StatusCode::FORBIDDEN, format!("{name} is no admin, and this is for admins"))
            }
            Decision::Deny(Denial::Network) => (StatusCode::FORBIDDEN, refusal::OUTSIDE.to_owned()),
        };
        Err(Problem::new(status, detail))
    }

    fn challenge(&self, detail: &'static str) -> Problem {
        with_challenges(Problem::new(StatusCode::UNAUTHORIZED, detail), &self.challenges)
    }
}

fn unknown(error: &AuthError, challenges: [HeaderValue; 2]) -> Problem {
    match error {
        AuthError::Login(LoginError::Wrong)
        | AuthError::Token(_)
        | AuthError::Revoked
        | AuthError::Unreadable => {
            let detail = format!("{error}; log in anew with `roadstead login`");
            with_challenges(Problem::new(StatusCode::UNAUTHORIZED, detail), &challenges)
        }
        AuthError::Login(error) => refusal::turned_away(error).into(),
        AuthError::Database(error) => ApiError::from(&**error).into(),
    }
}

fn with_challenges(problem: Problem, challenges: &[HeaderValue; 2]) -> Problem {
    challenges
        .iter()
        .fold(problem, |problem, challenge| problem.header(header::WWW_AUTHENTICATE, challenge.clone()))
}
