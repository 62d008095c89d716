//! Which upstream a client means: one that is listed, by its name or another name of it; or, where that is allowed, any
//! registry at all.
//!
//! A registry that is not listed is reached under a [`Guard`], without credentials. What it costs to know of one is bounded:
//! the trust is read once for all, and those that nobody asks for any more are forgotten.

use std::{borrow::Cow, collections::HashMap, net::IpAddr, sync::Arc, time::Duration};

use ipnet::IpNet;
use oci::client::{Guard, SharedTls, SystemRoots};
use tokio::sync::Semaphore;

use super::{
    InvalidUpstream, Upstream,
    make::{Common, read},
};
use crate::{
    metrics::Metrics,
    settings::{Freshness, Settings},
    upstream::negative::Negatives,
};

/// How many registries that are not listed are held in memory.
const UNLISTED: u64 = 1_000;
/// How long one is that nobody asks for.
const UNLISTED_IDLE: Duration = Duration::from_secs(600);

/// What Docker Hub is called in images, and what else clients call it.
const DOCKER_HUB: &str = "docker.io";
const DOCKER_HUB_ALIASES: [&str; 2] = ["index.docker.io", "registry-1.docker.io"];

/// All upstreams.
#[derive(Clone, Debug)]
pub(crate) struct Upstreams(Arc<Known>);

#[derive(Debug)]
struct Known {
    listed: HashMap<String, Arc<Upstream>>,
    default: Option<Arc<Upstream>>,
    unlisted: Option<Unlisted>,
}

#[derive(Debug)]
struct Unlisted {
    known: moka::sync::Cache<String, Arc<Upstream>>,
    common: Common,
    guard: Guard,
    tls: SharedTls,
    clients: Vec<IpNet>,
    freshness: Freshness,
}

impl Upstreams {
    /// Makes the clients; nobody is asked yet.
    ///
    /// # Errors
    /// A file cannot be read, or a URL is no registry's.
    pub(crate) fn new(settings: &Settings, metrics: &Metrics) -> Result<Self, InvalidUpstream> {
        let roots = SystemRoots::default();
        let negatives = Negatives::new(settings.freshness.negative.0);
        let common = |downloads: &Arc<Semaphore>| Common {
            waits: settings.into(),
            metrics: metrics.clone(),
            negatives: negatives.clone(),
            downloads: downloads.clone(),
            roots: roots.clone(),
        };
        let turns = || Arc::new(Semaphore::new(settings.download.connections as usize));
        let (mut listed, mut default) = (HashMap::new(), None);
        let only = settings.upstream.named.len() == 1;
        for (name, one) in &settings.upstream.named {
            let others = settings.upstream.named.iter().filter(|(other, _)| *other != name);
            let kin =
                others.filter(|(_, other)| other.url == one.url).map(|(other, _)| other.as_str().into());
            let upstream = Arc::new(Upstream::listed(name, one, kin.collect(), common(&turns()))?);
            if one.default || only {
                default = Some(upstream.clone());
            }
            listed.insert(name.clone(), upstream);
        }
        let any = &settings.upstream;
        let unlisted = match any.allow_any {
            false => None,
            true => {
                let extra = any.any_ca.as_deref().map(read).transpose()?.unwrap_or_default();
                let known = moka::sync::Cache::builder().max_capacity(UNLISTED).time_to_idle(UNLISTED_IDLE);
                Some(Unlisted {
                    known: known.build(),
                    common: common(&turns()),
                    guard: Guard::new(any.any_networks.clone()),
                    tls: SharedTls::new(&roots, &extra)?,
                    clients: any.any_clients.clone(),
                    freshness: any.any_freshness,
                })
            }
        };
        Ok(Self(Arc::new(Known { listed, default, unlisted })))
    }

    /// The listed upstream that a client means by `registry`, or by no registry.
    pub(crate) fn find(&self, registry: Option<&str>) -> Option<Arc<Upstream>> {
        let Some(name) = registry else { return self.0.default.clone() };
        let listed = &self.0.listed;
        let found = listed.get(name).or_else(|| {
            let name = plain(name);
            listed.get(&*name).or_else(|| listed.get(main_name(&name)?))
        });
        found.cloned()
    }

    /// The upstream of that name, listed or not, without asking who wants it: for what this node does by itself, or for
    /// its operator.
    pub(crate) fn of_name(&self, name: &str) -> Option<Arc<Upstream>> {
        self.find(Some(name)).or_else(|| self.0.unlisted.as_ref()?.get(name))
    }

    /// A registry that is not listed, where such may be asked and `caller` may name one.
    pub(crate) fn unlisted(&self, name: &str, caller: Caller) -> Option<Arc<Upstream>> {
        let unlisted = self.0.unlisted.as_ref()?;
        // Before anything is spent on the name.
        let admitted = match caller {
            Caller::Anybody => true,
            Caller::At(address) => is_within(&unlisted.clients, address),
        };
        admitted.then(|| unlisted.get(name)).flatten()
    }

    /// The listed ones, in no order.
    pub(crate) fn listed(&self) -> impl Iterator<Item = &Arc<Upstream>> {
        self.0.listed.values()
    }

    /// Whether names that say no registry mean `upstream`.
    pub(crate) fn is_default(&self, upstream: &Upstream) -> bool {
        self.0.default.as_ref().is_some_and(|default| default.name == upstream.name)
    }
}

/// Who wants an upstream.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Caller {
    /// Nobody is asked who they are.
    Anybody,
    /// The client there.
    At(IpAddr),
}

impl Unlisted {
    fn get(&self, name: &str) -> Option<Arc<Upstream>> {
        let name = plain(name);
        let name = main_name(&name).map_or(name, Cow::Borrowed);
        let build = || {
            let (guard, tls) = (self.guard.clone(), self.tls.clone());
            let clients = self.clients.clone();
            Upstream::unlisted(&name, self.freshness, clients, guard, tls, self.common.clone()).map(Arc::new)
        };
        match self.known.try_get_with(name.clone().into_owned(), build) {
            Ok(upstream) => Some(upstream),
            Err(error) => {
                tracing::info!(registry = %name, %error, "a client named a registry that cannot be one");
                None
            }
        }
    }
}

/// Host names have no case, and 443 is where they are asked anyway.
fn plain(name: &str) -> Cow<'_, str> {
    let name = name.strip_suffix(":443").unwrap_or(name);
    if name.bytes().any(|b| b.is_ascii_uppercase()) {
        return name.to_ascii_lowercase().into();
    }
    name.into()
}

/// The name that images have of a registry with several.
fn main_name(name: &str) -> Option<&'static str> {
    DOCKER_HUB_ALIASES.contains(&name).then_some(DOCKER_HUB)
}

/// Whether a registry is Docker Hub.
pub(super) fn is_docker_hub(name: &str) -> bool {
    name == DOCKER_HUB || main_name(name).is_some()
}

/// Whether one of the networks has the address.
pub(super) fn is_within(networks: &[IpNet], address: IpAddr) -> bool {
    let address = address.to_canonical();
    networks.iter().any(|network| network.contains(&address))
}
