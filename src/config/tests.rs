use serde::{Deserialize, Serialize};

use super::{
    layers::{Layer, Source, environment, flags},
    *,
};
use crate::settings::NodeSettings;

type Edge = Loaded<NodeSettings, edge::settings::Settings>;

fn set(keys: &[&str]) -> Layer {
    let keys: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
    Layer { source: Source::Flag, entries: flags(&keys).expect("well-formed") }
}

fn variables(pairs: &[(&str, &str)]) -> Layer {
    environment(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
}

#[test]
fn later_layers_win_and_bare_words_are_texts() {
    let layers = vec![
        variables(&[
            ("ROADSTEAD_DRAIN", "1s"),
            ("ROADSTEAD_LIMITS__CONNECTIONS", "7"),
            ("ROADSTEAD_URL", "x"),
        ]),
        set(&["drain=5s", "node.name=123", "upstream.docker.io.url=https://r.example"]),
    ];
    let loaded: Edge = load(layers).expect("good");
    assert_eq!(loaded.node.drain.0.as_secs(), 5);
    assert_eq!(loaded.node.limits.connections, 7);
    assert_eq!(loaded.node.node.name.as_deref(), Some("123"));
    let upstream = &loaded.role.upstream.named["docker.io"];
    assert_eq!(upstream.url.as_ref().map(ToString::to_string).as_deref(), Some("https://r.example/"));
}

#[test]
fn every_mistake_is_reported_with_its_key() {
    let layers = vec![
        variables(&[("ROADSTEAD_DRIAN", "1s")]),
        set(&["limits.idle_timeout=soon", "cache.capacity=much", "upstream.\"a.b:5000\".urll=x", "drain=1s"]),
    ];
    let mistakes = load::<NodeSettings, edge::settings::Settings>(layers).expect_err("bad").0;
    assert_eq!(mistakes.len(), 4, "{mistakes:?}");
    for key in ["drian", "limits.idle_timeout", "cache.capacity", "upstream.\"a.b:5000\".urll"] {
        assert!(mistakes.iter().any(|mistake| mistake.starts_with(key)), "{key}: {mistakes:?}");
    }
}

#[test]
fn what_is_printed_is_a_configuration_that_changes_nothing() {
    fn check<T: Default + Serialize + schemars::JsonSchema + for<'de> Deserialize<'de>>() {
        let mut page = String::new();
        reference::of::<T>(&mut page);
        let read: T = toml::from_str(&page).expect("the reference is read");
        let (read, default) = (serde_json::to_value(read), serde_json::to_value(T::default()));
        assert_eq!(read.expect("JSON"), default.expect("JSON"));
        for line in page.lines().filter(|line| line.contains(" =")) {
            let before = page.lines().take_while(|other| *other != line).last().unwrap_or_default();
            assert!(before.starts_with("# "), "{line} has no explanation");
        }
    }
    check::<NodeSettings>();
    check::<edge::settings::Settings>();
    check::<origin::settings::Settings>();
}
