//! Asking a registry step by step whether it can be pulled from, for a person who wants to know why not.

use std::{
    fmt::Display,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant, SystemTime},
};

use http::{HeaderMap, Method, Response, StatusCode, header};
use hyper::body::Incoming;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use url::Host;

use super::{
    Client, FetchError, RateLimit,
    auth::challenge,
    connect::Resolver,
    credentials::Current,
    fetch::is_page,
    guard::Forbidden,
    send::{Sender, empty},
};
use crate::challenge::Challenge;

/// One step of a [`Probe`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepName {
    /// The host's addresses are looked up.
    Resolve,
    /// A TCP connection is made.
    Connect,
    /// The TLS handshake, with the certificate's verification.
    Tls,
    /// `GET /v2/`.
    Version,
    /// What the registry wants to be shown before it lets one pull.
    Authenticate,
}

/// How one step went.
#[derive(Clone, Debug)]
pub struct Step {
    /// Which.
    pub name: StepName,
    /// How long it took.
    pub took: Duration,
    /// What was found, or why it failed.
    pub outcome: Result<String, String>,
}

/// What asking brought. The first step that fails is the last.
#[derive(Clone, Debug)]
pub struct Probe {
    /// The steps in their order.
    pub steps: Vec<Step>,
    /// What the registry told of its rate limit, now or earlier.
    pub rate_limit: Option<RateLimit>,
    /// By how many seconds the registry's clock is ahead of ours; it tells whole seconds only.
    pub clock_skew: Option<i64>,
}

impl Probe {
    /// Whether every step went well.
    pub fn is_well(&self) -> bool {
        self.steps.iter().all(|step| step.outcome.is_ok())
    }
}

impl Client {
    /// Asks the registry now, on connections of its own as far as they are looked at. No step takes longer than the
    /// client's connect and answer timeouts.
    pub async fn probe(&self) -> Probe {
        let mut probing = Probing { sender: &self.0, steps: Vec::new(), clock_skew: None };
        // The step that failed is in the list; there is nothing more to say.
        let _ended = probing.run(self).await;
        Probe { steps: probing.steps, clock_skew: probing.clock_skew, rate_limit: self.rate_limit() }
    }
}

struct Probing<'a> {
    sender: &'a Sender,
    steps: Vec<Step>,
    clock_skew: Option<i64>,
}

/// A step failed.
struct Ended;

type Outcome<T> = Result<(T, String), String>;

impl Probing<'_> {
    async fn run(&mut self, client: &Client) -> Result<(), Ended> {
        let addresses = self.step(StepName::Resolve, resolve(self.sender)).await?;
        let stream = self.step(StepName::Connect, connect(self.sender, addresses)).await?;
        if self.sender.config.url.scheme() == "https" {
            self.step(StepName::Tls, handshake(self.sender, stream)).await?;
        }
        let (response, skew) = self.step(StepName::Version, version(client)).await?;
        self.clock_skew = skew;
        self.step(StepName::Authenticate, authenticate(client, response)).await
    }

    async fn step<T>(&mut self, name: StepName, doing: impl Future<Output = Outcome<T>>) -> Result<T, Ended> {
        let began = Instant::now();
        let (value, outcome) = match doing.await {
            Ok((value, detail)) => (Ok(value), Ok(detail)),
            Err(why) => (Err(Ended), Err(why)),
        };
        self.steps.push(Step { name, took: began.elapsed(), outcome });
        value
    }
}

fn said(why: impl Display) -> String {
    why.to_string()
}

async fn resolve(sender: &Sender) -> Outcome<Vec<SocketAddr>> {
    let config = &sender.config;
    if let Some(guard) = &config.guard {
        guard.check(&config.url, &config.url).map_err(said)?;
    }
    let port = config.url.port_or_known_default().unwrap_or(443);
    let literal = |address: IpAddr| (vec![SocketAddr::new(address, port)], address.to_string());
    match config.url.host() {
        Some(Host::Ipv4(address)) => Ok(literal(address.into())),
        Some(Host::Ipv6(address)) => Ok(literal(address.into())),
        Some(Host::Domain(host)) => {
            let resolver = Resolver { guard: config.guard.clone(), timeout: config.connect_timeout };
            let addresses = resolver.lookup(host, port).await.map_err(said)?;
            let shown: Vec<String> = addresses.iter().map(|address| address.ip().to_string()).collect();
            let shown = shown.join(", ");
            Ok((addresses, shown))
        }
        None => Err("the URL has no host".to_owned()),
    }
}

async fn connect(sender: &Sender, addresses: Vec<SocketAddr>) -> Outcome<TcpStream> {
    let timeout = sender.config.connect_timeout;
    let mut why = Forbidden::Address("the host".to_owned()).to_string();
    // All of them together have the time of one: a client would not wait longer either.
    let attempts = async {
        for address in addresses {
            match TcpStream::connect(address).await {
                Ok(stream) => return Some((stream, address.to_string())),
                Err(error) => why = format!("{address}: {error}"),
            }
        }
        None
    };
    match tokio::time::timeout(timeout, attempts).await {
        Ok(Some(connected)) => Ok(connected),
        Ok(None) => Err(why),
        Err(_elapsed) => Err(format!("no connection within {timeout:?}")),
    }
}

async fn handshake(sender: &Sender, stream: TcpStream) -> Outcome<()> {
    let host = sender.config.url.host_str().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = ServerName::try_from(host).map_err(said)?;
    let connecting = TlsConnector::from(sender.tls.clone()).connect(name, stream);
    let timeout = sender.config.answer_timeout;
    let Ok(connected) = tokio::time::timeout(timeout, connecting).await else {
        return Err(format!("no handshake within {timeout:?}"));
    };
    let stream = connected.map_err(said)?;
    let version = stream.get_ref().1.protocol_version();
    let version = version.and_then(|version| version.as_str()).unwrap_or("TLS");
    Ok(((), version.to_owned()))
}

/// The answer to `GET /v2/`, and how far the registry's clock is ahead.
async fn version(client: &Client) -> Outcome<(Response<Incoming>, Option<i64>)> {
    let sender = &client.0;
    let timeout = sender.config.answer_timeout;
    let asked = sender.once(Method::GET, &sender.url(""), HeaderMap::new(), empty(), timeout).await;
    let response = asked.map_err(said)?;
    sender.rate.note(response.headers());
    let skew = clock_skew(response.headers(), SystemTime::now());
    let status = response.status();
    match status {
        StatusCode::OK if is_page(response.headers()) => Err("a web page answers at /v2/".to_owned()),
        StatusCode::OK => Ok(((response, skew), "200".to_owned())),
        StatusCode::UNAUTHORIZED if challenge(&response).is_some() => {
            Ok(((response, skew), "401".to_owned()))
        }
        StatusCode::UNAUTHORIZED => Err("401 without a challenge that this client knows".to_owned()),
        _ => Err(format!("{status}")),
    }
}

async fn authenticate(client: &Client, response: Response<Incoming>) -> Outcome<()> {
    let sender = &client.0;
    let credentials = sender.keeper.current().await.map_err(said)?;
    let who = match &credentials {
        Current::Anonymous => "anonymously".to_owned(),
        Current::Password { username, .. } => format!("as {username}"),
        Current::RefreshToken { .. } => "with a refresh token".to_owned(),
    };
    let challenge = (response.status() == StatusCode::UNAUTHORIZED).then(|| challenge(&response)).flatten();
    match challenge {
        None => Ok(((), "it asks nobody who they are".to_owned())),
        Some(Challenge::Bearer(bearer)) => {
            // A token for nothing in particular shows whether the service knows us, and costs no pull.
            let given = sender.fetch_token(&bearer, bearer.scope.as_deref()).await;
            given.map(|_token| ((), format!("{who}, by a token of {}", bearer.realm))).map_err(said)
        }
        Some(Challenge::Basic) => {
            let basic = credentials.basic().ok_or("it asks for a user and a password; none is configured")?;
            let headers = HeaderMap::from_iter([(header::AUTHORIZATION, basic)]);
            let timeout = sender.config.answer_timeout;
            let asked = sender.once(Method::GET, &sender.url(""), headers, empty(), timeout).await;
            match asked.map_err(|error: FetchError| said(error))?.status() {
                StatusCode::OK => Ok(((), format!("{who}, by Basic"))),
                status => Err(format!("refused {who}: {status}")),
            }
        }
    }
}

fn clock_skew(headers: &HeaderMap, now: SystemTime) -> Option<i64> {
    let date = httpdate::parse_http_date(headers.get(header::DATE)?.to_str().ok()?).ok()?;
    let seconds = |span: Duration| i64::try_from(span.as_secs()).unwrap_or(i64::MAX);
    Some(match date.duration_since(now) {
        Ok(ahead) => seconds(ahead),
        Err(behind) => -seconds(behind.duration()),
    })
}
