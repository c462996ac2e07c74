//! What every `*-tagged` does.

use super::guest::{Guest, ask, event, failure, lines};
use busway::{
    event::NewEvent,
    plugin::{Transcript, Version},
};
use serde_json::json;

pub async fn a_filter_keeps_the_contract(name: &str, bytes: Vec<u8>) {
    let guest = Guest::new(name, bytes);
    let fresh = guest.load(1, "isolation = \"fresh\"").await;
    answers_are_right(&fresh).await;
    let urgent = event("größe 😀", json!({})).tag("urgent").admit().unwrap();
    for _ in 0..2 {
        let (passes, said) = ask(&fresh, &urgent, None).await.unwrap();
        assert!(passes && call(&said) == 1, "{name}: nothing is left of the call before: {:?}", lines(&said));
    }
    let kept = guest.load(2, "isolation = \"reuse\"").await;
    let calm = event("größe 😀", json!({})).tag("calm").admit().unwrap();
    for expected in 1..=300 {
        let is_urgent = expected % 2 == 0;
        let (passes, said) = ask(&kept, if is_urgent { &urgent } else { &calm }, None).await.unwrap();
        assert_eq!((passes, call(&said)), (is_urgent, expected), "{name}: one instance");
    }
    answers_are_right(&kept).await;
}

/// The how-manieth call this was of its instance.
fn call(said: &Transcript) -> u32 {
    let [line] = lines(said)[..] else { panic!("one line was expected: {:?}", lines(said)) };
    line.strip_prefix("asking about größe 😀, call ").unwrap_or_else(|| panic!("{line}")).parse().unwrap()
}

async fn answers_are_right(version: &Version) {
    let name = version.name();
    let plain = event("task.created", json!("ü 😀")).admit().unwrap();
    let tagged = event("a", json!({})).tag("ü \"x\"").tag("urgent").admit().unwrap();
    let large = event("a", json!("x".repeat((1 << 20) - 2))).tag("urgent").admit().unwrap();
    let many: Vec<String> = (0..63).map(|n| format!("tag-{n}-ü")).collect();
    let many = many.iter().fold(event("a", json!(null)), NewEvent::tag);
    let (many, all) = (many.clone().admit().unwrap(), many.tag("urgent").admit().unwrap());
    for (event, params, expected) in [
        (&plain, None, Ok(false)),
        (&tagged, None, Ok(true)),
        (&large, None, Ok(true)),
        (&many, None, Ok(false)),
        (&all, None, Ok(true)),
        (&many, Some(json!({"tag": "tag-0-ü"})), Ok(true)),
        (&many, Some(json!({"tag": "tag-62-ü"})), Ok(true)),
        (&tagged, Some(json!({})), Ok(true)),
        (&tagged, Some(json!({"tag": "ü \"x\""})), Ok(true)),
        (&tagged, Some(json!({"tag": "calm"})), Ok(false)),
        (&tagged, Some(json!({"tag": null})), Err("params: ")),
        (&tagged, Some(json!({"tag": ["urgent"]})), Err("params: ")),
    ] {
        let answer = ask(version, event, params.clone()).await;
        match expected {
            Ok(expected) => assert_eq!(answer.map(|(passes, _)| passes).unwrap(), expected, "{name}: {params:?}"),
            Err(begins) => {
                let why = failure(answer);
                assert!(why.message.starts_with(begins), "{name}: {params:?}: {}", why.message);
            }
        }
    }
}
