//! The way into every route under `/v2/`: who is asking, and may they?
//!
//! A [`Pass`] is made here and nowhere else, and without one no operation runs. What is allowed is decided by
//! `gossip::access`; what a refused client is told, by `refusal`.

use std::{net::IpAddr, sync::Arc};

use gossip::access::{
    Action, Decision, Principal, ProjectName, Question, Resource, Shown, decide, decide_catalog,
    decide_presence,
};
use http::{HeaderMap, request::Parts};
use oci::{error::ApiError, http::Client, name::RepositoryName};

use super::{operation::Need, refusal};
use crate::{
    Openness,
    database::{Database, Error, projects::Standing},
    identity::{AuthError, Caller, Credentials, Identity},
};

/// Whether anybody is asked who they are, and how it is found out.
#[derive(Clone, Debug)]
pub(crate) struct Gate {
    pub(crate) openness: Openness,
    pub(crate) identity: Arc<Identity>,
}

/// A caller who was let in.
#[derive(Clone, Debug)]
pub(crate) struct Pass {
    gate: Gate,
    caller: Caller,
}

/// The projects whose images a caller may see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Visible {
    All,
    /// By their ids.
    These(Vec<i64>),
}

/// Projects that are looked at in one statement.
const PAGE: u32 = 1_000;

/// The address that a request comes from.
pub(crate) fn address(parts: &Parts) -> Option<IpAddr> {
    parts.extensions.get::<Client>().map(|client| client.remote.ip().to_canonical())
}

impl Gate {
    /// Lets a caller in who may do what is needed.
    pub(super) async fn admit(&self, parts: &Parts, need: Need<'_>) -> Result<Pass, ApiError> {
        let from = address(parts);
        let challenger = refusal::Challenger::new(&self.identity, &parts.headers);
        let caller = match self.caller(&parts.headers, from).await {
            Ok(caller) => caller,
            Err(error) => return Err(challenger.unknown(&error, need)),
        };
        let pass = Pass { gate: self.clone(), caller };
        let decision = match need {
            Need::Presence => decide_presence(pass.caller.principal(), pass.caller.shown(), from),
            Need::Catalog => decide_catalog(pass.caller.principal(), pass.caller.shown(), from),
            Need::In(repository, action) => {
                pass.decide(repository, action).await.map_err(|error| ApiError::from(&*error))?
            }
        };
        match decision {
            Decision::Allow => Ok(pass),
            Decision::Challenge(challenge) => Err(challenger.challenge(challenge, need)),
            Decision::Deny(denial) => Err(refusal::denied(denial, need, pass.caller.principal())),
        }
    }

    /// Who is asking.
    pub(crate) async fn caller(
        &self,
        headers: &HeaderMap,
        from: Option<IpAddr>,
    ) -> Result<Caller, AuthError> {
        match self.openness {
            // Whatever is shown, nobody looks at it.
            Openness::Everybody => Ok(Caller::everybody(from)),
            Openness::Asking => self.identity.authenticate(&Credentials::of(headers), from).await,
        }
    }
}

impl Pass {
    /// Whether the caller may do something in another repository than the one that was asked for.
    pub(super) async fn may(&self, repository: &RepositoryName, action: Action) -> Result<bool, ApiError> {
        let decision = self.decide(repository, action).await.map_err(|error| ApiError::from(&*error))?;
        Ok(decision == Decision::Allow)
    }

    /// Whether nobody was asked who they are.
    pub(super) fn is_open(&self) -> bool {
        self.gate.openness == Openness::Everybody
    }

    async fn decide(&self, repository: &RepositoryName, action: Action) -> Result<Decision, Arc<Error>> {
        if self.is_open() {
            return Ok(Decision::Allow);
        }
        decide_for(&self.gate.identity, &self.caller, self.caller.shown(), repository, action).await
    }

    /// The projects whose images the caller may see.
    pub(super) async fn visible(&self, database: &Database) -> Result<Visible, ApiError> {
        let caller = &self.caller;
        if self.is_open() {
            return Ok(Visible::All);
        }
        let (mut ids, mut after, mut all) = (Vec::new(), String::new(), true);
        loop {
            let page = database.standings(caller.id(), &after, PAGE).await?;
            let full = page.len() >= PAGE as usize;
            for (id, Standing { project, role }) in page {
                let question = Question {
                    principal: caller.principal(),
                    // The list has a scope of its own, which was looked at; in it stands what a secret would open.
                    shown: Shown::Secret,
                    from: caller.from,
                    resource: Resource::Project(&project.name),
                    project: Some(&project),
                    role,
                    action: Action::Pull,
                };
                match decide(&question) {
                    Decision::Allow => ids.push(id),
                    Decision::Challenge(_) | Decision::Deny(_) => all = false,
                }
                after = project.name.to_string();
            }
            if !full {
                return Ok(if all { Visible::All } else { Visible::These(ids) });
            }
        }
    }
}

/// Decides about a repository with what is known of its project.
pub(crate) async fn decide_for(
    identity: &Identity,
    caller: &Caller,
    shown: Shown<'_>,
    repository: &RepositoryName,
    action: Action,
) -> Result<Decision, Arc<Error>> {
    let standing = match ProjectName::of(repository) {
        Some(project) => identity.directory.standing(&project, caller.id()).await?,
        None => None,
    };
    Ok(decide(&Question {
        principal: caller.principal(),
        shown,
        from: caller.from,
        resource: Resource::Repository(repository),
        project: standing.as_ref().map(|standing| &standing.project),
        role: standing.as_ref().and_then(|standing| standing.role),
        action,
    }))
}

/// Whether somebody may show what they have from where they are.
pub(crate) fn may_come(principal: &Principal, from: Option<IpAddr>) -> bool {
    match principal {
        Principal::Robot(robot) => robot.comes_from_its_networks(from),
        Principal::Everybody | Principal::Anonymous | Principal::User(_) => true,
    }
}
