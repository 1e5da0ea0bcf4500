//! What is told of the verdicts, and kept of them.

use std::{fs, path::Path};

use attest::verify::{Challenge, Verdict, appraise};
use reqwest::header;
use serde_json::{Value, json};

use super::{
    caller::{config, run},
    stand_in::{Evidence, StandIn},
};
use crate::Config;

fn read(folder: &Path, name: &str) -> Vec<u8> {
    fs::read(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[tokio::test]
async fn every_judged_report_is_kept_as_it_came() {
    let folder = tempfile::tempdir().unwrap();
    let node = StandIn::start().await;
    let audited = Config { audit: Some(folder.path().to_owned()), ..config(&[&node.url]) };
    let policy = audited.policy.clone();
    let proxy = run(audited).await.unwrap();
    node.set(Evidence::SwappedKey);
    node.rotate();
    assert_eq!(proxy.refused().await.0, 502);
    for (number, accepted) in [("000001", true), ("000002", false)] {
        let verdict: Value =
            serde_json::from_slice(&read(folder.path(), &format!("{number}.verdict.json")))
                .unwrap();
        assert_eq!(verdict["node"], node.url);
        assert_eq!(verdict["exit_code"], if accepted { 0 } else { 10 });
        // Whoever reads it comes to the same verdict.
        let report = read(folder.path(), &format!("{number}.report.json"));
        let challenge = Challenge {
            nonce: verdict["nonce"].as_str().unwrap().parse().unwrap(),
            now_secs: verdict["appraised_at"].as_u64().unwrap(),
        };
        let again = appraise(&report, &policy, &challenge).verdict;
        assert_eq!(again == Verdict::Accepted, accepted);
    }
    let told: Value = proxy.get("/verification").await.json().await.unwrap();
    assert_eq!((&told["ready"], &told["nodes"][0]["state"]), (&json!(false), &json!("untrusted")));
    assert_eq!(told["nodes"][0]["evidence"]["number"], 2);
    assert_eq!(told["policy"]["sha256"], hex::encode(policy.digest()));
}

/// Trust that cannot be put on record is not given.
#[tokio::test]
async fn without_a_log_nothing_is_trusted() {
    let folder = tempfile::tempdir().unwrap();
    let node = StandIn::start().await;
    let at = folder.path().join("audit");
    let audited = || Config { audit: Some(at.clone()), ..config(&[&node.url]) };
    let proxy = run(audited()).await.unwrap();
    fs::remove_dir_all(&at).unwrap();
    node.rotate();
    assert_eq!(proxy.refused().await, (502, "node_untrusted".to_owned()));
    fs::write(&at, "not a folder").unwrap();
    assert_eq!(run(audited()).await.err().unwrap().exit_code(), 1);
}

/// The released file, byte for byte, under the policy that it names itself, and in nobody's frame.
#[tokio::test]
async fn the_page_that_seals_is_the_released_one() {
    let node = StandIn::start().await;
    let proxy = run(config(&[&node.url])).await.unwrap();
    let page = proxy.get("/page").await;
    assert_eq!(page.headers()[header::CONTENT_TYPE], "text/html; charset=utf-8");
    let policy = page.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap().to_owned();
    let (own, frames) = policy.rsplit_once("; ").unwrap();
    assert_eq!(frames, "frame-ancestors 'none'");
    assert!(own.contains("script-src 'sha256-") && !own.contains("unsafe"), "{own}");
    let html = page.text().await.unwrap();
    assert!(html == include_str!("../../../../sdk/page/obscura.html"));
    assert!(html.contains(own), "its own policy");
    for (name, value) in [("host", "evil.example"), ("origin", "http://evil.example")] {
        let asked = proxy.http().get(format!("{}/page", proxy.url)).header(name, value);
        assert_eq!(asked.send().await.unwrap().status(), 403, "{name}");
    }
}

#[tokio::test]
async fn people_see_the_verdict_on_a_page_that_runs_nothing() {
    let node = StandIn::start().await;
    let proxy = run(config(&[&node.url])).await.unwrap();
    for path in ["/", "/verification"] {
        let page = proxy.http().get(format!("{}{path}", proxy.url));
        let page = page.header(header::ACCEPT, "text/html,*/*;q=0.8").send().await.unwrap();
        assert_eq!(page.status(), 200, "{path}");
        let policy = page.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap().to_owned();
        assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
        assert!(!policy.contains("unsafe") && policy.contains("frame-ancestors 'none'"));
        let html = page.text().await.unwrap();
        assert!(html.contains(&node.url) && html.contains("verified"), "{html}");
        assert!(html.contains("Simulated nodes are accepted"), "{html}");
        assert!(!html.contains("<script") && !html.contains(" style="), "{html}");
    }
    let to_page = format!("<a href=\"/page#node={}&amp;demo\">", node.url);
    assert!(proxy.get("/").await.text().await.unwrap().contains(&to_page));
    let json = proxy.get("/verification").await;
    assert_eq!(json.headers()[header::CONTENT_TYPE], "application/json");
    let told: Value = json.json().await.unwrap();
    let evidence = &told["nodes"][0]["evidence"];
    assert_eq!((&told["ready"], &evidence["exit_code"]), (&json!(true), &json!(0)));
    let checks = evidence["appraisal"]["checks"].as_array().unwrap();
    assert!(checks.iter().any(|check| check["id"] == "keyset.possession"), "{checks:?}");
}
