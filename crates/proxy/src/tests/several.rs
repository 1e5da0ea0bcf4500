//! Nodes that do not serve the same model, and nodes that go and come back.

use std::{net::SocketAddr, time::Duration};

use serde_json::{Value, json};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
    time::{sleep, timeout},
};

use super::{
    caller::{PROMPT, Running, config, pair, run},
    stand_in::{Answer, MODEL, StandIn},
};

const TIMEOUT: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_model_is_asked_of_the_node_that_serves_it() {
    let (other, serving) = (StandIn::start().await, StandIn::start().await);
    other.answer(Answer::OtherModel);
    let proxy = run(config(&[&other.url, &serving.url])).await.unwrap();
    for _ in 0..6 {
        assert_eq!(proxy.ask().await.0, 200);
    }
    assert_eq!((other.sealed_requests(), serving.opened()), (1, 6), "what it said is remembered");
    // A model that nobody serves is no fault of the nodes.
    serving.answer(Answer::OtherModel);
    assert_eq!(proxy.refused().await, (404, "model_not_found".to_owned()));
    assert_eq!((other.sealed_requests(), serving.sealed_requests()), (2, 7), "each is asked once");
    // Whoever is only busy may serve it.
    serving.answer(Answer::Busy(20));
    assert_eq!(proxy.refused().await, (429, "queue_full".to_owned()));
}

#[tokio::test]
async fn a_deployment_of_azures_clients_is_a_model() {
    let (node, proxy) = pair().await;
    let send = async |path: &str, body: Value| {
        let url = format!("{}/openai/deployments/{path}?api-version=2025-04-01-preview", proxy.url);
        let answer = proxy.http().post(url).header("api-key", "callers").json(&body).send();
        answer.await.unwrap().status().as_u16()
    };
    let prompt = || json!({ "prompt": PROMPT });
    let image = json!({ "prompt": PROMPT, "images": ["data:image/png;base64,AAEC"] });
    assert_eq!(send("a/b/images/generations", prompt()).await, 200);
    assert_eq!(send("c/images/edits", image).await, 200);
    let named = json!({ "model": MODEL, "prompt": PROMPT });
    assert_eq!(send("c/images/generations", named).await, 200);
    assert_eq!(*node.inner.models.lock().unwrap(), ["a/b", "c", MODEL]);
    let seen = node.inner.seen.lock().unwrap().clone();
    assert!(seen.iter().all(|headers| headers["authorization"] == "Bearer callers"), "{seen:?}");
    assert_eq!(send("c/chat/completions", prompt()).await, 404);
    node.wire.assert_without(PROMPT);
}

/// A way to a node that can be cut and mended.
struct Way {
    at: SocketAddr,
    to: SocketAddr,
    relaying: JoinHandle<()>,
}

impl Way {
    async fn to(node: &StandIn) -> Self {
        let to = node.url.strip_prefix("http://").unwrap().parse().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        Self { at, to, relaying: tokio::spawn(relay(listener, to)) }
    }

    fn url(&self) -> String {
        format!("http://{}", self.at)
    }

    async fn cut(&mut self) {
        self.relaying.abort();
        let _ = (&mut self.relaying).await;
    }

    async fn mend(&mut self) {
        let listener = TcpListener::bind(self.at).await.unwrap();
        self.relaying = tokio::spawn(relay(listener, self.to));
    }
}

async fn relay(listener: TcpListener, to: SocketAddr) {
    // They end with this task.
    let mut connections = JoinSet::new();
    while let Ok((mut caller, _)) = listener.accept().await {
        connections.spawn(async move {
            if let Ok(mut node) = TcpStream::connect(to).await {
                let _ = copy_bidirectional(&mut caller, &mut node).await;
            }
        });
    }
}

async fn until(proxy: &Running, readyz: u16) {
    let changed = async {
        while proxy.get("/readyz").await.status() != readyz {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(TIMEOUT, changed).await.unwrap();
}

async fn states(proxy: &Running) -> Vec<String> {
    let verification: Value = proxy.get("/verification").await.json().await.unwrap();
    let is_ready =
        verification["nodes"].as_array().unwrap().iter().any(|it| it["state"] == "verified");
    assert_eq!(verification["ready"], is_ready);
    let nodes = verification["nodes"].as_array().unwrap().iter();
    nodes.map(|node| node["state"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_node_that_cannot_be_reached_is_not_ready_until_it_is_back() {
    let node = StandIn::start().await;
    let mut way = Way::to(&node).await;
    let proxy = run(config(&[&way.url()])).await.unwrap();
    assert_eq!(proxy.ask().await.0, 200);
    assert_eq!(proxy.get("/readyz").await.status(), 200);
    way.cut().await;
    // The first may still find the connection that was open.
    let unreachable = async { while proxy.refused().await.1 != "node_unreachable" {} };
    timeout(TIMEOUT, unreachable).await.unwrap();
    assert_eq!(proxy.get("/readyz").await.status(), 503);
    assert_eq!(states(&proxy).await, ["unreachable"]);
    way.mend().await;
    // Whoever asks for images is served at once, whatever was known,
    assert_eq!(proxy.ask().await.0, 200);
    assert_eq!(
        (proxy.get("/readyz").await.status().as_u16(), states(&proxy).await),
        (200, vec!["verified".to_owned()])
    );
    // and where a balancer sends nobody any more, evidence tells that it is back.
    way.cut().await;
    while proxy.refused().await.1 != "node_unreachable" {}
    assert_eq!(proxy.get("/readyz").await.status(), 503);
    way.mend().await;
    until(&proxy, 200).await;
}

/// A node that started anew while nobody could reach it has other keys, for which there is evidence at once.
#[tokio::test]
async fn a_node_that_comes_back_with_other_keys_is_asked_for_evidence() {
    let (node, spare) = (StandIn::start().await, StandIn::start().await);
    let mut way = Way::to(&node).await;
    let proxy = run(config(&[&way.url(), &spare.url])).await.unwrap();
    way.cut().await;
    for _ in 0..4 {
        assert_eq!(proxy.ask().await.0, 200, "the other stands in");
    }
    assert_eq!(proxy.get("/readyz").await.status(), 200);
    assert_eq!(states(&proxy).await, ["unreachable", "verified"]);
    spare.answer(Answer::Busy(20));
    // Long enough for questions that fail, so that the next is not due for a while.
    sleep(Duration::from_secs(4)).await;
    node.rotate();
    way.mend().await;
    assert_eq!(proxy.ask().await.0, 200);
    assert_eq!(node.opened(), 1);
}
