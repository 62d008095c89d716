//! The verdicts written down once, and laws that hold for every question.

use std::net::IpAddr;

use oci::name::RepositoryName;
use proptest::{prelude::*, sample::select};

use super::*;

fn project(visibility: Visibility, anonymous: &[&str]) -> Project {
    Project {
        name: "team".parse().expect("a name"),
        visibility,
        anonymous_networks: anonymous.iter().map(|network| network.parse().expect("a network")).collect(),
    }
}

fn user(admin: bool, auditor: bool) -> Principal {
    Principal::User(User { name: "ann".parse().expect("a name"), roles: SystemRoles { admin, auditor } })
}

fn robot(name: &str, actions: &[ContentAction], networks: &[&str]) -> Principal {
    let name: RobotName = name.parse().expect("a name");
    Principal::Robot(Robot {
        home: name.project().map_or(Home::System, Home::Project),
        name,
        actions: actions.iter().copied().collect(),
        networks: networks.iter().map(|network| network.parse().expect("a network")).collect(),
    })
}

/// What each action of [`Action::ALL`] is answered: `+` allow, `c` credentials wanted, `s` another scope wanted, `u` unseen,
/// `m` missing, `r` a role, `a` not among a robot's actions, `n` network.
fn row(principal: &Principal, shown: Shown<'_>, project: Option<&Project>, role: Option<Role>) -> String {
    let repository: RepositoryName = "team/app".parse().expect("a name");
    let from = Some(IpAddr::from([10, 0, 0, 7]));
    let letter = |action| {
        let resource = Resource::Repository(&repository);
        match decide(&Question { principal, shown, from, resource, project, role, action }) {
            Decision::Allow => '+',
            Decision::Challenge(Challenge::Credentials) => 'c',
            Decision::Challenge(Challenge::Scope) => 's',
            Decision::Deny(Denial::Unseen) => 'u',
            Decision::Deny(Denial::Missing) => 'm',
            Decision::Deny(Denial::Role { .. }) => 'r',
            Decision::Deny(Denial::NotAmongActions) => 'a',
            Decision::Deny(Denial::Network) => 'n',
            Decision::Deny(Denial::System) => 'y',
        }
    };
    Action::ALL.into_iter().map(letter).collect()
}

#[test]
fn the_table_of_verdicts_for_users_and_robots() {
    use ContentAction::{Delete, Pull, Push};
    let (private, public) = (project(Visibility::Private, &[]), project(Visibility::Public, &[]));
    let every = [Pull, Push, Delete];
    let secret = |principal: &Principal, project, role| row(principal, Shown::Secret, project, role);
    let check = |found: String, expected: &str, what: &str| assert_eq!(found, expected, "{what}");

    // Pull, Push, Delete, See, Label, ManageRobots, ManageMembers, ManageProject, Stat.
    for (role, expected) in [
        (None, "uuuuuuuuu"),
        (Some(Role::Guest), "+rr+rrrr+"),
        (Some(Role::Developer), "++r+rrrr+"),
        (Some(Role::Maintainer), "++++++rr+"),
        (Some(Role::Owner), "+++++++++"),
    ] {
        check(secret(&user(false, false), Some(&private), role), expected, "a member of a private project");
    }
    check(secret(&user(false, false), Some(&public), None), "+rr+rrrr+", "anybody at a public project");
    check(secret(&user(false, false), None, None), "uuuuuuuuu", "anybody at no project");
    check(secret(&user(true, false), Some(&private), None), "+++++++++", "an admin");
    check(secret(&user(true, false), None, None), "mmmmmmmmm", "an admin at no project");
    check(secret(&user(false, true), Some(&private), None), "rrr+rrrrr", "an auditor");
    check(secret(&user(false, true), None, None), "mmmmmmmmm", "an auditor at no project");

    let all = robot("team+ci", &every, &[]);
    check(secret(&all, Some(&private), None), "++++rrrr+", "a robot at home");
    check(
        secret(&robot("team+ci", &[Push], &[]), Some(&private), None),
        "a+a+rrrr+",
        "a robot that only pushes",
    );
    check(
        secret(&robot("team+ci", &[Push], &[]), Some(&public), None),
        "++a+rrrr+",
        "the same at a public project",
    );
    check(secret(&robot("other+ci", &every, &[]), Some(&private), None), "uuuuuuuuu", "a robot elsewhere");
    check(
        secret(&robot("other+ci", &every, &[]), Some(&public), None),
        "+rr+rrrr+",
        "a robot at a public project",
    );
    check(
        secret(&robot("system+ci", &[Pull], &[]), Some(&private), None),
        "+aa+rrrr+",
        "a robot of the system",
    );
    check(
        secret(&robot("system+ci", &[Pull], &[]), None, None),
        "mmmmmmmmm",
        "a robot of the system at no project",
    );
    let owner = Some(Role::Owner);
    check(
        secret(&robot("other+ci", &[Pull], &[]), Some(&private), owner),
        "+aa++++++",
        "a role adds no action",
    );
    check(
        secret(&robot("team+ci", &every, &["192.0.2.0/24"]), Some(&public), owner),
        "nnnnnnnnn",
        "from elsewhere",
    );
    check(
        secret(&robot("team+ci", &every, &["10.0.0.0/8"]), Some(&private), None),
        "++++rrrr+",
        "from its network",
    );
}

#[test]
fn the_table_of_verdicts_for_tokens_and_for_nobody() {
    let (private, public) = (project(Visibility::Private, &[]), project(Visibility::Public, &[]));
    let near = project(Visibility::Private, &["10.0.0.0/8"]);
    let check = |found: String, expected: &str, what: &str| assert_eq!(found, expected, "{what}");
    let none = Scopes::default();
    let pull = Scopes::parse(["repository:team/app:pull"]);
    let token = |principal: &Principal, scopes, project| row(principal, Shown::Token(scopes), project, None);
    let nobody = Principal::Anonymous;
    check(row(&nobody, Shown::Nothing, Some(&private), None), "ccccccccc", "nobody at a private project");
    check(row(&nobody, Shown::Nothing, Some(&public), None), "ccccccccc", "nobody without a token");
    check(row(&nobody, Shown::Nothing, None, None), "ccccccccc", "nobody at no project");
    check(
        row(&nobody, Shown::Nothing, Some(&near), None),
        "+cc+cccc+",
        "a mirror's client from a listed network",
    );
    check(token(&nobody, &pull, Some(&private)), "ccccccccc", "an anonymous token at a private project");
    check(token(&nobody, &pull, Some(&public)), "+ccscccc+", "an anonymous token at a public project");
    check(token(&nobody, &none, Some(&public)), "sccsccccs", "an anonymous token for nothing");
    check(token(&user(true, false), &pull, Some(&private)), "+sssssss+", "an admin's token for a pull");
    check(token(&user(false, false), &pull, Some(&private)), "uuuuuuuuu", "a token outlives no right");
    check(row(&Principal::Everybody, Shown::Nothing, None, None), "+++++++++", "--no-auth");
}

#[test]
fn only_who_shows_something_learns_that_this_is_a_registry() {
    use Decision::{Allow, Challenge as Show};
    let (near, far) = (Some(IpAddr::from([10, 0, 0, 7])), Some(IpAddr::from([192, 0, 2, 7])));
    let (none, catalog) = (Scopes::default(), Scopes::parse(["registry:catalog:*"]));
    let credentials = Show(Challenge::Credentials);
    let bound = robot("team+ci", &[], &["10.0.0.0/8"]);
    for (principal, shown, from, presence, listing) in [
        (&Principal::Everybody, Shown::Nothing, far, Allow, Allow),
        (&Principal::Anonymous, Shown::Nothing, near, credentials, credentials),
        (&Principal::Anonymous, Shown::Token(&none), near, Allow, Show(Challenge::Scope)),
        (&Principal::Anonymous, Shown::Token(&catalog), near, Allow, Allow),
        (&user(false, false), Shown::Secret, near, Allow, Allow),
        (&bound, Shown::Secret, near, Allow, Allow),
        (
            &bound,
            Shown::Token(&catalog),
            far,
            Decision::Deny(Denial::Network),
            Decision::Deny(Denial::Network),
        ),
        (&bound, Shown::Secret, None, Decision::Deny(Denial::Network), Decision::Deny(Denial::Network)),
    ] {
        assert_eq!(decide_presence(principal, shown, from), presence, "{principal:?} {shown:?}");
        assert_eq!(decide_catalog(principal, shown, from), listing, "{principal:?} {shown:?}");
    }
}

#[test]
fn the_system_is_for_admins_and_auditors_only_look() {
    let near = Some(IpAddr::from([10, 0, 0, 7]));
    let (catalog, api) = (Scopes::parse(["registry:catalog:*"]), Scopes::administration());
    assert_eq!(Scopes::parse(["registry:api:*"]), api);
    let (no, log_in, scope) = (
        Decision::Deny(Denial::System),
        Decision::Challenge(Challenge::Credentials),
        Decision::Challenge(Challenge::Scope),
    );
    let yes = Decision::Allow;
    for (principal, shown, look, change) in [
        (&Principal::Everybody, Shown::Nothing, yes, yes),
        (&Principal::Anonymous, Shown::Nothing, log_in, log_in),
        (&Principal::Anonymous, Shown::Token(&api), log_in, log_in),
        (&user(false, false), Shown::Secret, no, no),
        (&user(false, true), Shown::Secret, yes, no),
        (&user(true, false), Shown::Secret, yes, yes),
        (&user(true, false), Shown::Token(&api), yes, yes),
        (&user(true, false), Shown::Token(&catalog), scope, scope),
        (&robot("system+ci", &ContentAction::ALL, &[]), Shown::Secret, no, no),
    ] {
        assert_eq!(decide_system(principal, shown, near, SystemAction::SeeSystem), look, "{principal:?}");
        for action in [SystemAction::ManageSystem, SystemAction::CreateProject] {
            assert_eq!(decide_system(principal, shown, near, action), change, "{principal:?}");
        }
    }
    // A token for the API opens projects to whoever may, and no repository.
    let name: ProjectName = "team".parse().expect("a name");
    let repository: RepositoryName = "team/app".parse().expect("a name");
    assert!(api.hold(Resource::Project(&name), Action::ManageMembers));
    assert!(!api.hold(Resource::Repository(&repository), Action::Pull));
    assert!(!Scopes::parse(["repository:team/app:*"]).hold(Resource::Project(&name), Action::See));
}

#[test]
fn scopes_are_read_and_what_is_none_is_left_out() {
    let scopes = Scopes::parse([
        "repository:a/b:pull,push repository:a/b:delete",
        "repository:c:*",
        "repository:NO:pull",
        "repository:host:5000/x:pull",
        "registry:catalog:*",
        "plugin:x:pull",
        "repository:d",
        "",
    ]);
    let grants: Vec<_> =
        scopes.grants().iter().map(|grant| format!("{} {}", grant.name, grant.actions.join(","))).collect();
    assert_eq!(grants, ["a/b pull,push,delete", "c pull,push,delete", "catalog *"]);
    assert_eq!(Scopes::granted(&scopes.grants()), scopes);
    let kept = scopes.keep(|name, action| name.as_str() == "c" && action == Action::Pull);
    assert_eq!(kept.grants().len(), 2);
    let many: Vec<String> = (0..1000).map(|n| format!("repository:a/{n}:pull")).collect();
    assert_eq!(Scopes::parse(many.iter().map(String::as_str)).grants().len(), 100);
}

#[test]
fn names_follow_their_grammar() {
    for good in ["team", "a.b_c-d", "0"] {
        assert!(good.parse::<ProjectName>().is_ok(), "{good}");
    }
    for bad in ["", "a/b", "A", "-a", "a+b", &"a".repeat(129)] {
        assert!(bad.parse::<ProjectName>().is_err(), "{bad}");
    }
    for good in ["ann", "ann@example.org", "a", "a.b-c_d"] {
        assert!(good.parse::<UserName>().is_ok(), "{good}");
    }
    for bad in ["", "Ann", ".a", "a.", "a+b", "a b", "a:b", "ä", &"a".repeat(65)] {
        assert!(bad.parse::<UserName>().is_err(), "{bad}");
    }
    for good in ["team+ci", "system+ci", "a.b+c.d"] {
        assert!(good.parse::<RobotName>().is_ok(), "{good}");
    }
    for bad in ["+ci", "team+", "team", "a/b+c", "a+b+c", "team+CI"] {
        assert!(bad.parse::<RobotName>().is_err(), "{bad}");
    }
}

const NETWORKS: [&[&str]; 3] = [&[], &["10.0.0.0/8"], &["192.0.2.0/24"]];

fn any_principal() -> impl Strategy<Value = Principal> {
    let actions = proptest::collection::btree_set(select(&ContentAction::ALL[..]), 0..=3);
    let networks = select(&NETWORKS[..]);
    let robots = (select(&["team+ci", "other+ci", "system+ci"][..]), actions, networks).prop_map(
        |(name, actions, networks)| robot(name, &actions.into_iter().collect::<Vec<_>>(), networks),
    );
    prop_oneof![
        Just(Principal::Anonymous),
        (any::<bool>(), any::<bool>()).prop_map(|(admin, auditor)| user(admin, auditor)),
        robots,
    ]
}

prop_compose! {
    fn any_project()(public: bool, near: bool) -> Project {
        let visibility = if public { Visibility::Public } else { Visibility::Private };
        project(visibility, if near { &["10.0.0.0/8"] } else { &[] })
    }
}

proptest! {
    /// A token never allows what its owner's secret would not, and a role never takes anything away.
    #[test]
    fn less_shown_is_less_allowed(
        principal in any_principal(), project in proptest::option::of(any_project()),
        role in proptest::option::of(select(&Role::ALL[..])), action in select(&Action::ALL[..]),
        scope in "repository:team/(app|b):(pull|push|delete|\\*)", near: bool,
    ) {
        let repository: RepositoryName = "team/app".parse().expect("a name");
        let scopes = Scopes::parse([scope.as_str()]);
        let from = Some(IpAddr::from(if near { [10, 0, 0, 7] } else { [198, 51, 100, 1] }));
        let ask = |shown, role| decide(&Question {
            principal: &principal, shown, from, resource: Resource::Repository(&repository),
            project: project.as_ref(), role, action,
        });
        let (with_secret, with_token) = (ask(Shown::Secret, role), ask(Shown::Token(&scopes), role));
        if with_token == Decision::Allow {
            prop_assert_eq!(with_secret, Decision::Allow);
            let open = project.as_ref().is_some_and(|p| is_within(from, &p.anonymous_networks));
            prop_assert!(scopes.hold(Resource::Repository(&repository), action) || open && principal == Principal::Anonymous);
        }
        for more in Role::ALL.into_iter().filter(|more| Some(*more) >= role) {
            if with_secret == Decision::Allow {
                prop_assert_eq!(ask(Shown::Secret, Some(more)), Decision::Allow);
            }
        }
        let reads = action.reads();
        if ask(Shown::Nothing, role) == Decision::Allow {
            prop_assert!(reads && principal == Principal::Anonymous, "nothing shown, and something changed");
        }
    }

    /// Whoever is no member learns nothing from the difference between a private project and none.
    #[test]
    fn a_private_project_and_none_look_the_same(
        principal in any_principal(), action in select(&Action::ALL[..]), secret: bool,
    ) {
        let knows_all = match &principal {
            Principal::User(user) => user.roles.admin || user.roles.auditor,
            Principal::Robot(robot) => robot.name.as_str() != "other+ci",
            Principal::Anonymous | Principal::Everybody => false,
        };
        prop_assume!(!knows_all);
        let repository: RepositoryName = "team/app".parse().expect("a name");
        let scopes = Scopes::parse(["repository:team/app:*"]);
        let private = project(Visibility::Private, &[]);
        let ask = |project| decide(&Question {
            principal: &principal, shown: if secret { Shown::Secret } else { Shown::Token(&scopes) },
            from: Some(IpAddr::from([10, 0, 0, 7])), resource: Resource::Repository(&repository),
            project, role: None, action,
        });
        prop_assert_eq!(ask(Some(&private)), ask(None));
    }

    #[test]
    fn no_text_makes_a_parser_panic(text in ".{0,80}|repository:.{0,40}") {
        let _ = Scopes::parse([text.as_str()]);
        let _ = (text.parse::<ProjectName>(), text.parse::<UserName>(), text.parse::<RobotName>());
    }
}
