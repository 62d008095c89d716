//! What a token stands for: the `scope` of the token specification, and what of it was granted.

use std::collections::BTreeSet;

use oci::name::RepositoryName;
use serde::{Deserialize, Serialize};

use super::{Action, ContentAction, ProjectName};

/// What a question is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource<'a> {
    /// A repository.
    Repository(&'a RepositoryName),
    /// A project as a whole, in the administration API: tokens have a scope of their own for that.
    Project(&'a ProjectName),
}

/// One entry of a token's `access` claim, as it is written there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// `repository` or `registry`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The name of the repository, or `catalog`, or `api`.
    pub name: String,
    /// What may be done.
    pub actions: Vec<String>,
}

/// All that a token stands for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scopes(Vec<Scope>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Scope {
    Repository(RepositoryName, BTreeSet<ContentAction>),
    Catalog,
    Administration,
}

/// Repositories that one token may be for; what is asked for beyond that is not granted.
const MAX_SCOPES: usize = 100;

impl Scopes {
    /// Reads what a client asks for: any number of `scope` parameters, each of one or more scopes with spaces between.
    /// What is no scope of ours is left out, since to grant less than was asked for is no error. Names that come twice
    /// become one.
    pub fn parse<'a>(parameters: impl IntoIterator<Item = &'a str>) -> Self {
        let mut scopes = Self::default();
        for text in parameters.into_iter().flat_map(|parameter| parameter.split(' ')) {
            if let Some(scope) = Scope::parse(text) {
                scopes.add(scope);
            }
        }
        scopes
    }

    /// Reads a token's claim, which this program wrote.
    pub fn granted(grants: &[Grant]) -> Self {
        let mut scopes = Self::default();
        for grant in grants {
            let actions = grant.actions.iter().map(String::as_str);
            if let Some(scope) = Scope::of(&grant.kind, &grant.name, actions) {
                scopes.add(scope);
            }
        }
        scopes
    }

    /// What stands for the administration API, and for nothing else.
    pub fn administration() -> Self {
        Self(vec![Scope::Administration])
    }

    fn add(&mut self, scope: Scope) {
        if let Scope::Repository(name, more) = &scope {
            let known = self.0.iter_mut().find_map(|known| match known {
                Scope::Repository(found, actions) if found == name => Some(actions),
                Scope::Repository(..) | Scope::Catalog | Scope::Administration => None,
            });
            if let Some(actions) = known {
                actions.extend(more);
                return;
            }
        } else if self.0.contains(&scope) {
            return;
        }
        if self.0.len() < MAX_SCOPES {
            self.0.push(scope);
        }
    }

    /// What is left when each action has been asked about; a repository without any is left out.
    #[must_use]
    pub fn keep(&self, mut may: impl FnMut(&RepositoryName, Action) -> bool) -> Self {
        let kept = self.0.iter().filter_map(|scope| match scope {
            Scope::Catalog | Scope::Administration => Some(scope.clone()),
            Scope::Repository(name, actions) => {
                let actions: BTreeSet<_> =
                    actions.iter().copied().filter(|action| may(name, action.action())).collect();
                (!actions.is_empty()).then(|| Scope::Repository(name.clone(), actions))
            }
        });
        Self(kept.collect())
    }

    /// The repositories in it.
    pub fn repositories(&self) -> impl Iterator<Item = &RepositoryName> {
        self.0.iter().filter_map(|scope| match scope {
            Scope::Repository(name, _) => Some(name),
            Scope::Catalog | Scope::Administration => None,
        })
    }

    /// Whether a token with these scopes is enough for an action.
    pub fn hold(&self, resource: Resource<'_>, action: Action) -> bool {
        match resource {
            Resource::Project(_) => self.hold_administration(),
            Resource::Repository(repository) => self.0.iter().any(|scope| match scope {
                Scope::Repository(name, actions) => {
                    name == repository && action.contents().iter().any(|action| actions.contains(action))
                }
                Scope::Catalog | Scope::Administration => false,
            }),
        }
    }

    /// Whether a token with these scopes is enough for the list of repositories.
    pub fn hold_catalog(&self) -> bool {
        self.0.contains(&Scope::Catalog)
    }

    /// Whether a token with these scopes is enough for the administration API.
    pub fn hold_administration(&self) -> bool {
        self.0.contains(&Scope::Administration)
    }

    /// As a token's claim.
    pub fn grants(&self) -> Vec<Grant> {
        let registry = |name: &str| Grant {
            kind: "registry".to_owned(),
            name: name.to_owned(),
            actions: vec!["*".to_owned()],
        };
        let grant = |scope: &Scope| match scope {
            Scope::Repository(name, actions) => Grant {
                kind: "repository".to_owned(),
                name: name.to_string(),
                actions: actions.iter().map(|action| action.as_str().to_owned()).collect(),
            },
            Scope::Catalog => registry("catalog"),
            Scope::Administration => registry("api"),
        };
        self.0.iter().map(grant).collect()
    }
}

impl Scope {
    /// `type:name:action,action`; a name may have a colon where it says a host and port, which none of ours does.
    fn parse(text: &str) -> Option<Self> {
        let (kind, rest) = text.split_once(':')?;
        let (name, actions) = rest.rsplit_once(':')?;
        Self::of(kind, name, actions.split(','))
    }

    fn of<'a>(kind: &str, name: &str, actions: impl Iterator<Item = &'a str>) -> Option<Self> {
        match (kind, name) {
            ("registry", "catalog") => Some(Self::Catalog),
            ("registry", "api") => Some(Self::Administration),
            ("repository", name) => {
                let mut wanted = BTreeSet::new();
                for action in actions {
                    match action {
                        "*" => wanted.extend(ContentAction::ALL),
                        _ => wanted
                            .extend(ContentAction::ALL.into_iter().find(|known| known.as_str() == action)),
                    }
                }
                Some(Self::Repository(name.parse().ok()?, wanted))
            }
            _ => None,
        }
    }
}
