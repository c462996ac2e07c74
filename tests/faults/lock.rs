//! One hub at a time for each directory.

use super::program::Place;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_is_refused_with_the_firsts_pid_also_where_one_was_killed_before() {
    let place = Place::new("");
    let killed = place.start().await;
    let left = killed.pid();
    killed.kill().await;
    let program = place.start().await;
    assert_eq!(program.publish_one(json!(1)).await, 1);
    let said = place.refused().await;
    assert!(said.contains(&format!("process {}", program.pid())), "{said}");
    assert!(!said.contains(&left.to_string()) || program.pid().to_string().contains(&left.to_string()), "{said}");
    // The refusal left the first one alone.
    assert_eq!(program.publish_one(json!(2)).await, 2);
    program.end().await;
    assert_eq!(place.start().await.publish_one(json!(3)).await, 3);
}
