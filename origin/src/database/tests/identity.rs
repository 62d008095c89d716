//! Accounts, projects and members, and what a store of the time before them becomes.

use std::{collections::BTreeSet, time::Duration};

use gossip::access::{ContentAction, Principal, ProjectName, RobotName, Role, Visibility};

use super::{Database, Error, TestDatabase, push_blob, push_manifest, repository};
use crate::{
    database::{
        Kind,
        accounts::{Admission, Changed, Expected, PasswordHash, Proof, Refusal, SecretHash},
        keys::StoredKey,
        projects::{Images, ProjectChange, Projects},
        robots::NewRobot,
        users::{NewUser, UserChange},
    },
    time::Timestamp,
};

const ANY: Expected = Expected(None);

fn project(name: &str) -> ProjectName {
    name.parse().expect("a name")
}

async fn add_user(database: &Database, name: &str, admin: bool) {
    let password = PasswordHash("$argon2id$".to_owned());
    let new = NewUser { name, email: None, password: &password, admin, auditor: false };
    assert_eq!(database.create_user(&new).await.expect("answered"), Changed::Done(()));
}

async fn add_project(database: &Database, name: &str) {
    let made = database.create_project(&project(name), Visibility::Private, &[]).await;
    assert_eq!(made.expect("answered"), Changed::Done(()));
}

async fn add_robot(database: &Database, name: &str, secret: &[u8]) -> Changed<()> {
    let name: RobotName = name.parse().expect("a name");
    let actions = BTreeSet::from([ContentAction::Pull]);
    let networks = ["10.0.0.0/8".parse().expect("a network")];
    let secret = SecretHash(secret.to_vec());
    let new =
        NewRobot { name: &name, secret: &secret, actions: &actions, networks: &networks, expires_at: None };
    database.create_robot(&new).await.expect("answered")
}

#[tokio::test]
async fn repositories_of_the_time_before_become_private_projects() {
    for test in TestDatabase::both().await {
        let database = test.open().await;
        // The schema as the version before left it.
        let mut statements = vec!["DELETE FROM schema_version WHERE version = 2".to_owned()];
        for table in ["signing_key", "refresh_token", "member", "robot", "login", "account"] {
            statements.push(format!("DROP TABLE {table}"));
        }
        statements.push("DROP INDEX repository_by_project".to_owned());
        statements.push("ALTER TABLE repository DROP COLUMN project_id".to_owned());
        statements.push("DROP TABLE project".to_owned());
        for name in ["team/app", "team/other/deep", "alone", "team-b/app"] {
            statements.push(format!("INSERT INTO repository (name, created_at) VALUES ('{name}', 1)"));
        }
        for statement in statements {
            sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&database.write).await.expect("done");
        }
        database.close().await;

        let database = test.open().await;
        let found = database.standings(None, "", 100).await.expect("answered");
        let names: Vec<_> = found.iter().map(|(_, standing)| standing.project.name.as_str()).collect();
        assert_eq!(names, ["alone", "team", "team-b"]);
        assert!(found.iter().all(|(_, standing)| standing.project.visibility == Visibility::Private));
        let orphans: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM repository WHERE project_id IS NULL")
            .fetch_one(&database.read)
            .await
            .expect("answered");
        assert_eq!(orphans, 0);
        let name = repository("team/app");
        push_manifest(&database, &name, &[], "v1").await;
        let shown = database.project(&project("team")).await.expect("answered").expect("there");
        assert_eq!(shown.repositories, 1);
    }
}

#[tokio::test]
async fn a_project_is_made_by_a_push_only_where_nobody_is_asked_who_they_are() {
    for test in TestDatabase::both().await {
        let open = test.open().await;
        push_blob(&open, &repository("free/app"), b"x").await;
        assert!(open.project(&project("free")).await.expect("answered").is_some());

        let closed = open.with_projects(Projects::MadeByAdmin);
        let refused = closed.create_upload(&repository("new/app"), oci::digest::Algorithm::Sha256).await;
        let error = refused.expect_err("there is no such project");
        assert!(matches!(&error, Error::NoProject(name) if name == "new"), "{error}");
        assert!(error.to_string().contains("roadstead project create new"), "{error}");
        assert!(closed.project(&project("new")).await.expect("answered").is_none());
        add_project(&closed, "new").await;
        push_blob(&closed, &repository("new/app"), b"x").await;
        let made = closed.create_project(&project("new"), Visibility::Public, &[]).await.expect("answered");
        assert_eq!(made, Changed::Refused(Refusal::Exists));
    }
}

#[tokio::test]
async fn a_project_goes_with_its_images_only_if_that_is_said() {
    for test in TestDatabase::both().await {
        let database = test.open().await;
        let name = repository("team/app");
        let blob = push_blob(&database, &name, b"layer").await;
        push_blob(&database, &repository("other/app"), b"layer").await;
        push_manifest(&database, &name, &[(&blob, 5)], "v1").await;
        database.create_upload(&name, oci::digest::Algorithm::Sha256).await.expect("begun");
        assert_eq!(add_robot(&database, "team+ci", b"s").await, Changed::Done(()));
        let shown = database.project(&project("team")).await.expect("answered").expect("there");
        assert_eq!((shown.repositories, shown.bytes), (1, 5));

        let kept = database.remove_project(&project("team"), Images::Keep, ANY).await.expect("answered");
        assert_eq!(kept, Changed::Refused(Refusal::Images { repositories: 1 }));
        let old = Expected(Some(shown.version - 1));
        let raced = database.remove_project(&project("team"), Images::Remove, old).await.expect("answered");
        assert_eq!(raced, Changed::Differs);
        let gone = database.remove_project(&project("team"), Images::Remove, ANY).await.expect("answered");
        assert_eq!(gone, Changed::Done(()));
        assert_eq!(database.tags(&name, "", 10).await.expect("answered"), None);
        assert_eq!(database.blob_size(&name, &blob).await.expect("answered"), None);
        assert_eq!(database.blob_size(&repository("other/app"), &blob).await.expect("answered"), Some(5));
        assert_eq!(database.account("team+ci").await.expect("answered"), None);
        let again = database.remove_project(&project("team"), Images::Remove, ANY).await.expect("answered");
        assert_eq!(again, Changed::Missing);
    }
}

#[tokio::test]
async fn the_last_owner_stays_whoever_tries_and_however_many_at_once() {
    for test in TestDatabase::both().await {
        let database = test.open().await;
        add_project(&database, "team").await;
        let team = project("team");
        add_user(&database, "root", true).await;
        for name in ["ann", "bob"] {
            add_user(&database, name, false).await;
            let set = database.set_member(&team, name, Role::Owner, ANY).await.expect("answered");
            assert_eq!(set, Changed::Done(()));
        }
        let last = Changed::Refused(Refusal::LastOwner { project: "team".to_owned() });
        let leave = |name: &'static str| {
            let (database, team) = (database.clone(), team.clone());
            async move { database.remove_member(&team, name, ANY).await.expect("answered") }
        };
        let outcomes = tokio::join!(leave("ann"), leave("bob"));
        assert!(
            [(Changed::Done(()), last.clone()), (last.clone(), Changed::Done(()))].contains(&outcomes),
            "{outcomes:?}"
        );
        let owners = database.members(&team, "", 10).await.expect("answered");
        assert_eq!(owners.len(), 1);
        let name = owners[0].name.as_str();
        assert_eq!(database.set_member(&team, name, Role::Guest, ANY).await.expect("answered"), last);
        assert_eq!(database.remove_account(name, ANY).await.expect("answered"), last);
        assert!(database.account(name).await.expect("answered").is_some(), "nothing was changed");
        assert_eq!(
            database.set_member(&team, "nobody", Role::Guest, ANY).await.expect("answered"),
            Changed::Refused(Refusal::NoAccount)
        );
        let version = owners[0].version;
        let wrong = Expected(Some(version + 1));
        assert_eq!(
            database.set_member(&team, name, Role::Owner, wrong).await.expect("answered"),
            Changed::Differs
        );
        assert_eq!(database.remove_member(&team, "nobody", ANY).await.expect("answered"), Changed::Missing);
    }
}

#[tokio::test]
async fn one_admin_who_can_log_in_is_always_left() {
    for test in TestDatabase::both().await {
        let database = test.open().await;
        let password = PasswordHash("$argon2id$".to_owned());
        let first = NewUser { name: "admin", email: None, password: &password, admin: true, auditor: false };
        assert!(database.create_first_admin(&first).await.expect("answered"));
        assert!(!database.create_first_admin(&first).await.expect("answered"));
        let last = Changed::Refused(Refusal::LastAdmin);
        assert_eq!(database.admit("admin", Admission::Out, ANY).await.expect("answered"), last);
        assert_eq!(database.remove_account("admin", ANY).await.expect("answered"), last);
        let demoted = UserChange { admin: Some(false), ..UserChange::default() };
        assert_eq!(database.change_user("admin", &demoted, ANY).await.expect("answered"), last);
        add_user(&database, "root", true).await;
        assert_eq!(database.change_user("admin", &demoted, ANY).await.expect("answered"), Changed::Done(()));
        assert_eq!(database.admit("root", Admission::Out, ANY).await.expect("answered"), last);
    }
}

#[tokio::test]
async fn a_new_password_and_a_rotation_make_void_what_was_had_before() {
    for test in TestDatabase::both().await {
        let database = test.open().await;
        add_user(&database, "ann", false).await;
        let before = database.account("ann").await.expect("answered").expect("there");
        let hour = Duration::from_secs(3600);
        database.add_refresh_token("aa", before.id, before.generation, hour).await.expect("kept");
        let found = database.refresh_token("aa").await.expect("answered");
        assert_eq!(found, Some((before.id, before.generation)));
        let change = UserChange {
            password: Some(PasswordHash("$new".to_owned())),
            email: Some(Some("a@b".into())),
            ..UserChange::default()
        };
        let shown = database.user("ann").await.expect("answered").expect("there");
        let stale = Expected(Some(shown.version + 1));
        assert_eq!(database.change_user("ann", &change, stale).await.expect("answered"), Changed::Differs);
        let version = Expected(Some(shown.version));
        assert_eq!(database.change_user("ann", &change, version).await.expect("answered"), Changed::Done(()));
        let after = database.account_by_id(before.id).await.expect("answered").expect("there");
        assert_eq!(after.generation, before.generation + 1);
        assert_eq!(after.proof, Proof::Password(PasswordHash("$new".to_owned())));
        assert_eq!(database.refresh_token("aa").await.expect("answered"), None);
        assert_eq!(database.users("", 10).await.expect("answered")[0].email.as_deref(), Some("a@b"));

        assert_eq!(add_robot(&database, "gone+ci", b"1").await, Changed::Refused(Refusal::NoProject));
        assert_eq!(add_robot(&database, "system+ci", b"1").await, Changed::Done(()));
        assert_eq!(add_robot(&database, "system+ci", b"2").await, Changed::Refused(Refusal::Exists));
        let name: RobotName = "system+ci".parse().expect("a name");
        let robot = database.account("system+ci").await.expect("answered").expect("there");
        assert!(matches!(&robot.principal, Principal::Robot(robot) if robot.networks.len() == 1));
        database.add_refresh_token("bb", robot.id, 1, hour).await.expect("kept");
        let rotated = database.rotate_robot(&name, &SecretHash(b"2".to_vec()), hour, ANY).await;
        assert_eq!(rotated.expect("answered"), Changed::Done(()));
        let both = database.account("system+ci").await.expect("answered").expect("there");
        let Proof::Secrets { current, old, .. } = &both.proof else { panic!("a robot has secrets") };
        assert_eq!((&current.0[..], &old.as_ref().expect("two").0.0[..]), (&b"2"[..], &b"1"[..]));
        assert_eq!(both.generation, robot.generation, "running jobs go on");
        assert!(database.refresh_token("bb").await.expect("answered").is_some());
        let now = Duration::ZERO;
        database.rotate_robot(&name, &SecretHash(b"3".to_vec()), now, ANY).await.expect("answered");
        let void = database.account("system+ci").await.expect("answered").expect("there");
        assert_eq!(void.generation, robot.generation + 1);
        assert_eq!(database.refresh_token("bb").await.expect("answered"), None);
        assert_eq!(database.robots(None, "", 10).await.expect("answered").len(), 1);
        assert_eq!(database.robots(Some("team"), "", 10).await.expect("answered").len(), 0);
        assert_eq!(
            database.admit("system+ci", Admission::Out, ANY).await.expect("answered"),
            Changed::Done(()),
            "a robot is no admin"
        );
    }
}

#[tokio::test]
async fn one_of_many_nodes_adds_the_next_signing_key_and_old_ones_go() {
    for test in TestDatabase::both().await {
        let database = test.open().await;
        let key = |seed: u8, millis| StoredKey { seed: vec![seed; 32], signs_from: Timestamp::at(millis) };
        let mut adders = tokio::task::JoinSet::new();
        for node in 0..8_u8 {
            let database = database.clone();
            let key = key(node, 1_000);
            adders.spawn(async move { database.add_signing_key(&node.to_string(), &key, None).await });
        }
        let added = adders.join_all().await.into_iter().filter(|added| matches!(added, Ok(true))).count();
        if database.kind == Kind::Sqlite {
            assert_eq!(added, 1);
        }
        assert!(added >= 1, "two nodes may both see an empty table in PostgreSQL, and both keys count then");
        assert!(!database.add_signing_key("x", &key(9, 2_000), None).await.expect("answered"));
        let newest = Some(Timestamp::at(1_000));
        assert!(database.add_signing_key("y", &key(9, 2_000), newest).await.expect("answered"));
        assert_eq!(database.remove_signing_keys(Timestamp::at(2_000)).await.expect("answered"), 0);
        assert!(database.remove_signing_keys(Timestamp::at(2_001)).await.expect("answered") >= 1);
        assert_eq!(database.signing_keys().await.expect("answered"), [key(9, 2_000)]);
    }
}

#[tokio::test]
async fn a_change_of_a_project_counts_up_its_version() {
    for test in TestDatabase::both().await {
        let database = test.open().await;
        add_project(&database, "team").await;
        let team = project("team");
        let before = database.project(&team).await.expect("answered").expect("there");
        let change = ProjectChange {
            visibility: Some(Visibility::Public),
            anonymous_networks: Some(vec!["10.0.0.0/8".parse().expect("a network")]),
        };
        let version = Expected(Some(before.version));
        assert_eq!(
            database.change_project(&team, &change, version).await.expect("answered"),
            Changed::Done(())
        );
        assert_eq!(
            database.change_project(&team, &change, version).await.expect("answered"),
            Changed::Differs
        );
        let standing = database.standing(&team, None).await.expect("answered").expect("there");
        assert_eq!(standing.project.visibility, Visibility::Public);
        assert_eq!(standing.project.anonymous_networks.len(), 1);
        assert_eq!(standing.role, None);
    }
}
