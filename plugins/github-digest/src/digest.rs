//! From a webhook's payload to a digest. Pure. Payloads have no common form, so each part of the digest has a list of places
//! to look for it, the most telling first; what is in none of them is left out.

use busway_plugin::serde_json::Value;
use serde::Serialize;

/// The digest of one webhook, as it is published.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct Digest<'a> {
    event: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    action: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    repo: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    actor: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<&'a str>,
    text: String,
}

const REPOS: &[&str] = &["/repository/full_name", "/organization/login", "/installation/account/login"];

const ACTORS: &[&str] = &["/sender/login", "/pusher/name"];

// What the event is about. Places that many events share (`/repository/…`) would hide the telling ones, so they are not here.
const TITLES: &[&str] = &[
    "/pull_request/title",
    "/issue/title",
    "/discussion/title",
    "/release/name",
    "/release/tag_name",
    "/milestone/title",
    "/head_commit/message",
    "/workflow_run/display_title",
    "/workflow_run/name",
    "/workflow_job/name",
    "/check_run/name",
    "/check_suite/head_branch",
    "/alert/rule/description",
    "/alert/security_advisory/summary",
    "/alert/affected_package_name",
    "/security_advisory/summary",
    "/deployment/environment",
    "/label/name",
    "/project/name",
    "/project_card/note",
    "/project_column/name",
    "/package/name",
    "/pages/0/title",
    "/key/title",
    "/rule/name",
    "/team/name",
    "/forkee/full_name",
    "/member/login",
    "/membership/user/login",
    "/blocked_user/login",
    "/sponsorship/tier/name",
    "/marketplace_purchase/plan/name",
    "/context",
    "/zen",
];

const URLS: &[&str] = &[
    "/comment/html_url",
    "/review/html_url",
    "/pull_request/html_url",
    "/issue/html_url",
    "/discussion/html_url",
    "/release/html_url",
    "/milestone/html_url",
    "/compare",
    "/workflow_run/html_url",
    "/workflow_job/html_url",
    "/check_run/html_url",
    "/alert/html_url",
    "/deployment_status/target_url",
    "/target_url",
    "/commit/html_url",
    "/project/html_url",
    "/package/html_url",
    "/pages/0/html_url",
    "/forkee/html_url",
    "/team/html_url",
    "/installation/html_url",
    "/security_advisory/references/0/url",
    "/repository/html_url",
    "/sender/html_url",
];

const NUMBERS: &[&str] =
    &["/pull_request/number", "/issue/number", "/discussion/number", "/milestone/number", "/alert/number"];

// Longer ones are cut: a commit message may be a page.
const TITLE_MAX: usize = 120;

impl<'a> Digest<'a> {
    /// `name` is that of the webhook event, as in the header `X-GitHub-Event`.
    pub(crate) fn of(name: &'a str, payload: &'a Value) -> Self {
        let mut digest = Self {
            event: name,
            action: text(payload, "/action"),
            repo: first(payload, REPOS),
            actor: first(payload, ACTORS),
            title: first(payload, TITLES).map(headline),
            url: first(payload, URLS),
            text: String::new(),
        };
        digest.text = digest.line(payload);
        digest
    }

    /// One line for people: who did what, to which thing, where.
    fn line(&self, payload: &Value) -> String {
        let mut line = format!("{} {}", self.actor.unwrap_or("GitHub"), self.deed(payload));
        if let Some(number) = NUMBERS.iter().find_map(|at| payload.pointer(at)?.as_u64()) {
            line += &format!(" #{number}");
        }
        if let Some(title) = self.title {
            line += &format!(" “{title}”");
        }
        if let Some(repo) = self.repo {
            line += match self.event {
                "star" | "watch" | "public" | "repository" => " ",
                "fork" => " of ",
                _ => " in ",
            };
            line += repo;
        }
        line
    }

    fn deed(&self, payload: &Value) -> String {
        let at = |pointer| text(payload, pointer).unwrap_or("something");
        let branch = at("/ref").trim_start_matches("refs/heads/").trim_start_matches("refs/tags/");
        let noun = match self.event {
            "issues" => "issue".into(),
            "meta" => "webhook".into(),
            "org_block" => "user".into(),
            event => event.replace('_', " "),
        };
        match (self.event, self.action) {
            ("push", _) if payload["deleted"] == true => format!("deleted {branch}"),
            ("push", _) => {
                let commits = payload["commits"].as_array().map_or(0, Vec::len);
                format!("pushed {commits} commit{} to {branch}", if commits == 1 { "" } else { "s" })
            }
            ("create", _) => format!("created {} {branch}", at("/ref_type")),
            ("delete", _) => format!("deleted {} {branch}", at("/ref_type")),
            ("fork", _) => "made the fork".into(),
            ("gollum", _) => "edited the wiki".into(),
            ("repository_dispatch", Some(action)) => format!("dispatched {action}"),
            ("pull_request", Some("synchronize")) => "updated pull request".into(),
            ("public", _) => "published".into(),
            ("star", Some("deleted")) => "took a star from".into(),
            ("star" | "watch", _) => "starred".into(),
            ("pull_request", Some("closed")) if payload["pull_request"]["merged"] == true => {
                "merged pull request".into()
            }
            ("workflow_run" | "workflow_job" | "check_run" | "check_suite", Some("completed")) => {
                let result = at(&format!("/{}/conclusion", self.event)).replace('_', " ");
                format!("completed {noun} ({result})")
            }
            ("status", _) => format!("reported {}", at("/state")),
            ("deployment_status", _) => format!("reported {} of deployment", at("/deployment_status/state")),
            (_, Some(action)) => format!("{} {noun}", action.replace('_', " ")),
            (_, None) => format!("sent {noun}"),
        }
    }
}

fn first<'a>(payload: &'a Value, places: &[&str]) -> Option<&'a str> {
    places.iter().find_map(|place| text(payload, place))
}

/// The text at a JSON Pointer (RFC 6901), unless it is empty.
fn text<'a>(payload: &'a Value, pointer: &str) -> Option<&'a str> {
    payload.pointer(pointer)?.as_str().filter(|text| !text.trim().is_empty())
}

fn headline(text: &str) -> &str {
    let line = text.trim().lines().next().unwrap_or_default();
    line.char_indices().nth(TITLE_MAX).map_or(line, |(end, _)| &line[..end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use busway_plugin::serde_json::json;

    fn check(name: &str, payload: Value, expected: &str) {
        assert_eq!(Digest::of(name, &payload).text, expected);
    }

    #[test]
    fn a_line_says_who_did_what_where() {
        let (sender, repository) = (json!({ "login": "ann" }), json!({ "full_name": "a/b" }));
        let pull = json!({ "number": 7, "title": "Add x", "merged": true });
        check(
            "pull_request",
            json!({ "action": "closed", "pull_request": pull, "sender": sender, "repository": repository }),
            "ann merged pull request #7 “Add x” in a/b",
        );
        let head = json!({ "message": "Fix y\n\nAt length." });
        check(
            "push",
            json!({ "ref": "refs/heads/main", "commits": [{}], "head_commit": head, "sender": sender, "repository": repository }),
            "ann pushed 1 commit to main “Fix y” in a/b",
        );
        let run = json!({ "conclusion": "timed_out", "name": "CI" });
        check(
            "workflow_run",
            json!({ "action": "completed", "workflow_run": run, "repository": repository }),
            "GitHub completed workflow run (timed out) “CI” in a/b",
        );
    }

    #[test]
    fn what_is_missing_is_left_out() {
        check("push", json!({}), "GitHub pushed 0 commits to something");
        check("never_heard_of", json!([1, 2]), "GitHub sent never heard of");
        let digest = busway_plugin::serde_json::to_value(Digest::of("ping", &json!(null))).expect("JSON");
        assert_eq!(digest, json!({ "event": "ping", "text": "GitHub sent ping" }));
    }

    #[test]
    fn a_long_title_is_cut_between_characters() {
        assert_eq!(headline(&"ü".repeat(500)).chars().count(), TITLE_MAX);
    }
}
