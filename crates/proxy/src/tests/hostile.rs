//! Nodes, relays and evidence that are not what they should be: each is refused, and nothing of a prompt
//! goes out.

use std::time::Duration;

use attest::{Policy, simulator::Flaw};

use super::{
    caller::{PROMPT, config, pair, run},
    stand_in::{Answer, Evidence, StandIn},
};
use crate::{NodeAddress, StartError};

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn bad_evidence_ends_the_start() {
    for (evidence, code) in [
        (Evidence::SwappedKey, 10),
        (Evidence::Expired, 10),
        (Evidence::Flawed(Flaw::Revoked), 10),
        (Evidence::Flawed(Flaw::Debug), 10),
        (Evidence::Flawed(Flaw::OutOfDate), 10),
        (Evidence::Flawed(Flaw::OtherImage), 10),
        (Evidence::Garbage, 30),
        (Evidence::Endless, 1),
        (Evidence::Redirected, 1),
    ] {
        let node = StandIn::start_with(evidence, HOUR).await;
        let refused = run(config(&[&node.url])).await.err().expect("it does not start");
        assert_eq!(refused.exit_code(), code, "{evidence:?}: {refused}");
        assert_eq!(node.questions(), 1, "{evidence:?}");
        assert_eq!(node.wire.requests("POST"), 0, "{evidence:?}");
        assert_eq!(node.wire.requests("/elsewhere"), 0, "redirections are not followed");
    }
    // Sound as a simulated node's can be; but nobody said that such are accepted.
    let node = StandIn::start().await;
    let strict = crate::Config { policy: Policy::production(), ..config(&[&node.url]) };
    let refused = run(strict).await.err().unwrap();
    assert!(matches!(refused, StartError::Untrusted { .. }) && refused.exit_code() == 10);
    assert!(refused.to_string().contains("platform.allowed"), "{refused}");
    let refused = run(config(&[&StandIn::nowhere().await])).await.err().unwrap();
    assert!(matches!(refused, StartError::Unreachable { .. }), "{refused}");
}

/// A node that was sound, and has other keys now that its evidence does not speak for.
#[tokio::test]
async fn evidence_that_turns_bad_ends_all_sending() {
    for evidence in [
        Evidence::Old,
        Evidence::SwappedKey,
        Evidence::Expired,
        Evidence::Flawed(Flaw::Revoked),
        Evidence::Garbage,
    ] {
        let (node, proxy) = pair().await;
        assert_eq!(proxy.ask().await.0, 200);
        node.set(evidence);
        node.rotate();
        let refused = (502, "node_untrusted".to_owned());
        assert_eq!(proxy.refused().await, refused, "{evidence:?}");
        let sent = node.sealed_requests();
        assert_eq!(sent, 2, "the second was sealed to the keys of before, and not opened");
        assert_eq!(proxy.refused().await, refused, "{evidence:?}");
        assert_eq!(node.sealed_requests(), sent, "{evidence:?}: nothing more goes out");
        assert_eq!(proxy.get("/readyz").await.status(), 503);
        node.wire.assert_without(PROMPT);
    }
}

/// Evidence of another node is sound, but speaks for keys that this one does not hold.
#[tokio::test]
async fn another_nodes_evidence_opens_nothing() {
    let node = StandIn::start_with(Evidence::OfAnother, HOUR).await;
    let proxy = run(config(&[&node.url])).await.unwrap();
    assert_eq!(proxy.refused().await, (502, "node_untrusted".to_owned()));
    assert_eq!((node.opened(), node.sealed_requests()), (0, 2));
    node.wire.assert_without(PROMPT);
}

#[tokio::test]
async fn evidence_that_ends_between_check_and_use_is_not_used() {
    let node = StandIn::start_with(Evidence::Sound, Duration::from_secs(2)).await;
    let proxy = run(config(&[&node.url])).await.unwrap();
    node.set(Evidence::Expired);
    let (_, trusted) = proxy.proxy.pool().any().await.ok().unwrap();
    let client = client::Client::new(&node.url, client::ApiKey::none()).unwrap();
    tokio::time::sleep(Duration::from_millis(3100)).await;
    assert_eq!(proxy.refused().await, (502, "node_untrusted".to_owned()));
    // Nor does the client itself send anything by it.
    let request = protocol::CreateImageRequest {
        prompt: Some(PROMPT.to_owned().into()),
        ..protocol::CreateImageRequest::default()
    };
    let refused = client.generate(request, &trusted.node).await.err().unwrap();
    assert!(matches!(refused, client::ClientError::Expired { .. }), "{refused}");
    assert_eq!(node.wire.requests("POST"), 0);
}

/// A node whose keys are about to end is asked before they do.
#[tokio::test]
async fn evidence_is_fresh_before_the_keys_end() {
    let node = StandIn::start_with(Evidence::Sound, Duration::from_secs(4)).await;
    let proxy = run(config(&[&node.url])).await.unwrap();
    *node.inner.lifetime.lock().unwrap() = HOUR;
    node.rotate();
    for _ in 0..100 {
        if node.questions() == 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(node.questions(), 2);
    while proxy.proxy.pool().members()[0]
        .usable()
        .is_some_and(|it| it.node.not_after_secs() < 1000 + attested_at(&it.node))
    {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(proxy.ask().await.0, 200);
    assert_eq!(node.sealed_requests(), 1, "sealed to the fresh keys at once");
}

fn attested_at(node: &client::AttestedNode) -> u64 {
    node.evidence().challenge.now_secs
}

#[tokio::test]
async fn an_answer_that_does_not_hold_up_is_no_answer() {
    let (node, proxy) = pair().await;
    assert_eq!(proxy.ask().await.0, 200);
    for (answer, code, sealed) in [
        (Answer::ForeignReceipt, "answer_invalid", 1),
        (Answer::NoReceipt, "answer_invalid", 1),
        (Answer::FlippedBit, "answer_invalid", 1),
        (Answer::Earlier, "answer_invalid", 1),
        (Answer::InClearText, "answer_invalid", 1),
        (Answer::OtherCount, "answer_invalid", 1),
        (Answer::RemoteUrl, "answer_invalid", 1),
        (Answer::Hangup, "answer_broken", 1),
        (Answer::Redirected, "node_refused", 1),
        // Once more after fresh evidence, which speaks for the same keys; then it is not the node's.
        (Answer::Stale, "node_untrusted", 2),
    ] {
        node.answer(answer);
        let before = node.sealed_requests();
        let refused = proxy.refused().await;
        assert_eq!(refused, (502, code.to_owned()), "{answer:?}");
        assert_eq!(node.sealed_requests() - before, sealed, "{answer:?}: nothing is tried twice");
    }
    assert_eq!(node.wire.requests("/elsewhere"), 0, "redirections are not followed");
    node.answer(Answer::Sound);
    assert_eq!(proxy.ask().await.0, 200, "a node that is itself again");
    node.wire.assert_without(PROMPT);
}

#[tokio::test]
async fn a_stream_that_was_meddled_with_ends_with_an_error() {
    let (node, proxy) = pair().await;
    for (answer, told, code) in [
        (Answer::Dropped, 1, "answer_invalid"),
        (Answer::Swapped, 1, "answer_invalid"),
        (Answer::Repeated, 1, "answer_invalid"),
        (Answer::FlippedEvent, 2, "answer_invalid"),
        (Answer::ForeignReceipt, 4, ""),
        (Answer::Cut, 3, "answer_broken"),
    ] {
        node.answer(answer);
        let events = proxy.ask_stream().await;
        if answer == Answer::ForeignReceipt {
            // Of a whole answer alone: the stream is sound.
            assert_eq!(events.len(), 4);
            continue;
        }
        let (name, error) = events.last().unwrap();
        assert_eq!((name.as_str(), &error["error"]["code"]), ("error", &code.into()), "{answer:?}");
        assert_eq!(events.len(), told + 1, "{answer:?}");
        assert!(events.iter().all(|(name, _)| !name.contains("completed")), "{answer:?}");
    }
    node.wire.assert_without(PROMPT);
}

/// A gateway that requests go through, and evidence that comes from elsewhere.
#[tokio::test]
async fn evidence_from_elsewhere_speaks_for_keys_alone() {
    let (node, other) = (StandIn::start().await, StandIn::start().await);
    let through = |evidence: &StandIn| crate::Config {
        nodes: vec![NodeAddress { url: node.url.clone(), evidence: Some(evidence.url.clone()) }],
        ..config(&[])
    };
    let own = NodeAddress { url: node.url.clone(), evidence: Some(node.direct.clone()) };
    let proxy = run(crate::Config { nodes: vec![own], ..config(&[]) }).await.unwrap();
    assert_eq!(proxy.ask().await.0, 200);
    // The gateway's key is nobody's business; its stack is billed.
    assert_eq!(*node.inner.stacks.lock().unwrap(), [5]);
    // The other one's evidence is sound; this one cannot open what is sealed by it.
    let proxy = run(through(&other)).await.unwrap();
    assert_eq!(proxy.refused().await, (502, "node_untrusted".to_owned()));
    assert_eq!((node.opened(), other.opened()), (1, 0));
    assert_eq!(node.questions(), 0);
    node.wire.assert_without(PROMPT);
}
