//! Logins and tokens over a real database.

use std::{collections::BTreeSet, net::IpAddr, path::Path, sync::Arc, time::Duration};

use gossip::access::{ContentAction, RobotName, Scopes};

use super::{AuthError, Credentials, Identity, LoginError, secret};
use crate::{
    Openness, Reach, Scheme,
    database::{
        Database,
        accounts::{Admission, Changed, Expected},
        robots::NewRobot,
        testing::TestDatabase,
        users::{NewUser, UserChange},
    },
    metrics::Metrics,
    settings::{AuthSettings, Secret},
    time::Timestamp,
};

const ANY: Expected = Expected(None);
const REACH: Reach = Reach { openness: Openness::Asking, scheme: Scheme::Http };

fn text(text: &str) -> Secret {
    Secret::from(text.to_owned())
}

fn from(last: u8) -> Option<IpAddr> {
    Some(IpAddr::from([192, 0, 2, last]))
}

fn settings() -> AuthSettings {
    AuthSettings { admin_password: Some(text("first")), ..AuthSettings::default() }
}

async fn start(database: &Database, settings: AuthSettings, dir: &Path) -> Arc<Identity> {
    Identity::start(database.clone(), settings, REACH, dir, Metrics::default()).await.expect("starts")
}

async fn add_user(identity: &Identity, name: &str, password: &str) {
    let hash = identity.passwords.hash(&text(password), None).await.expect("hashed");
    let new = NewUser { name, email: None, password: &hash, admin: false, auditor: false };
    assert_eq!(identity.database.create_user(&new).await.expect("answered"), Changed::Done(()));
}

async fn add_robot(identity: &Identity, name: &str, expires_at: Option<Timestamp>) -> Secret {
    let name: RobotName = name.parse().expect("a name");
    let (shown, hash) = secret::for_robot();
    let actions = BTreeSet::from([ContentAction::Pull]);
    let new = NewRobot { name: &name, secret: &hash, actions: &actions, networks: &[], expires_at };
    assert_eq!(identity.database.create_robot(&new).await.expect("answered"), Changed::Done(()));
    shown
}

fn is_wrong<T>(result: &Result<T, LoginError>) -> bool {
    matches!(result, Err(LoginError::Wrong))
}

#[tokio::test]
async fn a_name_and_its_password_log_in_and_nothing_else_does() {
    for test in TestDatabase::both().await {
        let identity = start(&test.open().await, settings(), test.path()).await;
        add_user(&identity, "ann", "pass word ü").await;
        let account = identity.login("ann", &text("pass word ü"), from(1)).await.expect("logged in");
        assert_eq!(account.principal.name(), "ann");
        for (name, password) in [
            ("ann", "pass word"),
            ("ann", ""),
            ("Ann", "pass word ü"),
            ("bob", "pass word ü"),
            ("", "pass word ü"),
            ("ann\0", "pass word ü"),
            ("ann", &"x".repeat(60_000)),
            (&"x".repeat(60_000), "x"),
        ] {
            assert!(is_wrong(&identity.login(name, &text(password), from(1)).await), "{name:.20}");
        }
        identity.database.admit("ann", Admission::Out, ANY).await.expect("answered");
        identity.directory.forget();
        assert!(is_wrong(&identity.login("ann", &text("pass word ü"), from(1)).await), "disabled");
        identity.database.admit("ann", Admission::In, ANY).await.expect("answered");
        identity.directory.forget();
        assert!(identity.login("ann", &text("pass word ü"), from(1)).await.is_ok());
        let new = identity.passwords.hash(&text("new"), None).await.expect("hashed");
        let change = UserChange { password: Some(new), ..UserChange::default() };
        identity.database.change_user("ann", &change, ANY).await.expect("answered");
        identity.directory.forget();
        assert!(is_wrong(&identity.login("ann", &text("pass word ü"), from(1)).await), "the old password");
        assert!(identity.login("ann", &text("new"), from(1)).await.is_ok());
    }
}

#[tokio::test]
async fn a_name_that_nobody_has_costs_the_same_work_as_a_wrong_password() {
    let test = TestDatabase::sqlite();
    let identity = start(&test.open().await, settings(), test.path()).await;
    add_user(&identity, "ann", "password").await;
    add_robot(&identity, "system+ci", None).await;
    let mut work = Vec::new();
    for name in ["ann", "nobody"] {
        let before = identity.metrics.password_hashes.get();
        assert!(is_wrong(&identity.login(name, &text("guess"), from(1)).await));
        work.push(identity.metrics.password_hashes.get() - before);
    }
    assert_eq!(work, [1, 1]);
    // A robot's secret cannot be guessed; neither name costs a hash.
    let before = identity.metrics.password_hashes.get();
    for name in ["system+ci", "system+nobody"] {
        assert!(is_wrong(&identity.login(name, &text("guess"), from(1)).await));
    }
    assert_eq!(identity.metrics.password_hashes.get(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_jobs_of_one_build_cost_one_hash() {
    let test = TestDatabase::sqlite();
    let identity = start(&test.open().await, settings(), test.path()).await;
    add_user(&identity, "ci", "password").await;
    let before = identity.metrics.password_hashes.get();
    let mut jobs = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let identity = identity.clone();
        jobs.spawn(async move { identity.login("ci", &text("password"), from(1)).await.is_ok() });
    }
    assert!(jobs.join_all().await.into_iter().all(|logged_in| logged_in));
    assert_eq!(identity.metrics.password_hashes.get() - before, 1);
    assert_eq!(identity.brake.remembered(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn guesses_made_at_once_are_slowed_and_their_account_is_not_locked() {
    let test = TestDatabase::sqlite();
    let identity = start(&test.open().await, settings(), test.path()).await;
    add_user(&identity, "ann", "password").await;
    let before = identity.metrics.password_hashes.get();
    let mut guesses = tokio::task::JoinSet::new();
    for guess in 0..256 {
        let identity = identity.clone();
        // Some the same, some not.
        let guess = text(&format!("guess{}", guess % 40));
        guesses.spawn(async move { identity.login("ann", &guess, from(66)).await });
    }
    let outcomes = guesses.join_all().await;
    let wrong = outcomes.iter().filter(|outcome| is_wrong(outcome)).count();
    let later = outcomes.iter().filter(|outcome| matches!(outcome, Err(LoginError::Later(_)))).count();
    assert_eq!(wrong + later, 256);
    // Ten, and one more for each pause that went by meanwhile: 1 s, 2 s, 4 s.
    assert!((10..16).contains(&wrong), "{wrong}");
    assert!(identity.metrics.password_hashes.get() - before < 16);
    assert!(identity.login("ann", &text("password"), from(1)).await.is_ok(), "the owner, elsewhere");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_logins_is_turned_away_and_holds_up_nobody_else() {
    let test = TestDatabase::sqlite();
    let identity = start(&test.open().await, settings(), test.path()).await;
    add_user(&identity, "ann", "password").await;
    let mut flood = tokio::task::JoinSet::new();
    for name in 0..1_500 {
        let identity = identity.clone();
        flood.spawn(async move { identity.login(&format!("user{name}"), &text("x"), from(66)).await });
    }
    // The first that is turned away says that the queue is full.
    let first = flood.join_next().await.expect("some").expect("ended");
    assert!(first.is_err());
    let began = std::time::Instant::now();
    assert!(identity.login("ann", &text("password"), from(1)).await.is_ok(), "the next in turn");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    flood.abort_all();
}

#[tokio::test]
async fn a_robot_logs_in_with_both_secrets_while_they_overlap_and_until_it_ends() {
    for test in TestDatabase::both().await {
        let identity = start(&test.open().await, settings(), test.path()).await;
        let first = add_robot(&identity, "system+ci", None).await;
        let name: RobotName = "system+ci".parse().expect("a name");
        assert!(identity.login("system+ci", &first, from(1)).await.is_ok());
        let (second, hash) = secret::for_robot();
        let hour = Duration::from_secs(3600);
        identity.database.rotate_robot(&name, &hash, hour, ANY).await.expect("answered");
        // As at a node that was not told: what it remembers is older than the secret.
        assert!(identity.login("system+ci", &second, from(1)).await.is_ok());
        assert!(identity.login("system+ci", &first, from(1)).await.is_ok());
        let (third, hash) = secret::for_robot();
        identity.database.rotate_robot(&name, &hash, Duration::ZERO, ANY).await.expect("answered");
        identity.directory.forget();
        assert!(is_wrong(&identity.login("system+ci", &first, from(1)).await));
        assert!(is_wrong(&identity.login("system+ci", &second, from(1)).await));
        assert!(identity.login("system+ci", &third, from(1)).await.is_ok());
        let over = add_robot(&identity, "system+over", Some(Timestamp::now())).await;
        assert!(is_wrong(&identity.login("system+over", &over, from(1)).await));
    }
}

#[tokio::test]
async fn tokens_are_void_when_their_account_changes_and_when_they_are_over() {
    for test in TestDatabase::both().await {
        let database = test.open().await;
        let identity = start(&database, settings(), test.path()).await;
        let other = start(&database, settings(), test.path()).await;
        add_user(&identity, "ann", "password").await;
        let account = identity.login("ann", &text("password"), from(1)).await.expect("logged in");
        let issued = identity.issue(Some(&account), &Scopes::default()).expect("a key");
        assert_eq!(issued.expires_in, 300);
        let token = Credentials::Bearer(issued.token);
        let caller = other.authenticate(&token, from(1)).await.expect("another node takes it");
        assert_eq!(caller.principal().name(), "ann");
        let refresh = identity.issue_refresh(&account).await.expect("made").0;
        assert_eq!(other.account_of_refresh(&refresh).await.expect("known").id, account.id);
        let tampered = text(&format!("{}x", refresh.expose()));
        assert!(matches!(other.account_of_refresh(&tampered).await, Err(AuthError::Revoked)));

        database.admit("ann", Admission::Out, ANY).await.expect("answered");
        identity.directory.forget();
        assert!(matches!(identity.authenticate(&token, from(1)).await, Err(AuthError::Revoked)));
        assert!(matches!(identity.account_of_refresh(&refresh).await, Err(AuthError::Revoked)));
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while other.authenticate(&token, from(1)).await.is_ok() {
            assert!(std::time::Instant::now() < deadline, "the other node never heard of it");
            tokio::task::yield_now().await;
        }
        // A new account of the same name is another one.
        database.admit("ann", Admission::In, ANY).await.expect("answered");
        assert_eq!(database.remove_account("ann", ANY).await.expect("answered"), Changed::Done(()));
        add_user(&identity, "ann", "password").await;
        identity.directory.forget();
        assert!(matches!(identity.authenticate(&token, from(1)).await, Err(AuthError::Revoked)));
    }
}

#[tokio::test]
async fn a_short_token_is_told_as_a_minute_and_ends_when_it_ends() {
    let test = TestDatabase::sqlite();
    let second = "1s".parse().expect("a duration");
    let zero = "0s".parse().expect("a duration");
    let short = AuthSettings { token_ttl: second, leeway: zero, ..settings() };
    let identity = start(&test.open().await, short, test.path()).await;
    let issued = identity.issue(None, &Scopes::default()).expect("a key");
    assert_eq!(issued.expires_in, 60);
    let token = Credentials::Bearer(issued.token);
    assert!(identity.authenticate(&token, None).await.is_ok());
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while identity.authenticate(&token, None).await.is_ok() {
        assert!(std::time::Instant::now() < deadline, "it never ends");
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_rotate_without_a_token_refused_and_old_ones_are_forgotten() {
    let test = TestDatabase::sqlite();
    let span = |text: &str| text.parse().expect("a duration");
    let quick =
        AuthSettings { key_rotation: span("1s"), token_ttl: span("1h"), leeway: span("0s"), ..settings() };
    let database = test.open().await;
    let identity = start(&database, quick.clone(), test.path()).await;
    let other = start(&database, quick, test.path()).await;
    let stop = tokio_util::sync::CancellationToken::new();
    for node in [identity.clone(), other.clone()] {
        let stop = stop.clone();
        tokio::spawn(async move { node.maintain(stop).await });
    }
    let first = Credentials::Bearer(identity.issue(None, &Scopes::default()).expect("a key").token);
    let kid = identity.keys.ring().signing(Timestamp::now()).expect("a key").id().clone();
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while identity.keys.ring().signing(Timestamp::now()).expect("a key").id() == &kid {
        assert!(std::time::Instant::now() < deadline, "no new key signs");
        let token = Credentials::Bearer(identity.issue(None, &Scopes::default()).expect("a key").token);
        assert!(other.authenticate(&token, None).await.is_ok(), "known before it signs");
        tokio::task::yield_now().await;
    }
    assert!(other.authenticate(&first, None).await.is_ok(), "of the key before");
    assert!(identity.keys.ring().verifying.jwks().keys.len() >= 2);
    stop.cancel();
}

#[tokio::test]
async fn the_first_admin_has_the_given_password_or_one_in_a_file_for_this_user_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let test = TestDatabase::sqlite();
    let database = test.open().await;
    let identity = start(&database, AuthSettings::default(), test.path()).await;
    let file = test.path().join("admin.password");
    // The database holds the keys that tokens are signed with.
    for path in ["admin.password", "origin.db", "origin.db-wal"] {
        let mode = std::fs::metadata(test.path().join(path)).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{path}");
    }
    let password = std::fs::read_to_string(&file).expect("readable");
    assert!(identity.login("admin", &text(password.trim()), None).await.is_ok());
    // A second start changes nothing, whatever its settings say.
    let again = start(&database, settings(), test.path()).await;
    assert!(is_wrong(&again.login("admin", &text("first"), None).await));
    assert_eq!(std::fs::read_to_string(&file).expect("readable"), password);

    let other = TestDatabase::sqlite();
    let given = start(&other.open().await, settings(), other.path()).await;
    assert!(given.login("admin", &text("first"), None).await.is_ok());
    assert!(!other.path().join("admin.password").exists());
}
