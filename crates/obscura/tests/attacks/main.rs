//! Attacks on the program itself: built as it is, with the demo model, over real sockets. Each was seen to
//! work once. What either version of HTTP can carry is tried over both.
//!
//! A start costs more than most attacks, so those that do not disturb each other share a node.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod connections;
mod evidence;
mod log;
mod pages;
mod probes;
mod queue;
mod replays;
mod signatures;
mod target;
mod unread;
mod visible;

#[path = "../program/mod.rs"]
mod program;

use target::Target;

/// By whoever can reach it: a page in a browser of this machine, or another user of it.
#[tokio::test(flavor = "multi_thread")]
async fn on_a_node_without_credentials() {
    let address = target::free_address();
    let (health_listen, probes) = (format!("health_listen={address}"), format!("http://{address}"));
    let settings = ["--set", "delivery_timeout_secs=2", "--set", &health_listen];
    let node = Target::start(&[&["--allow-plaintext"], &settings[..]].concat()).await;
    queue::small_images_refuse_nobody_a_large_one(&node).await;
    pages::of_other_sites_use_nothing(&node, &probes).await;
    pages::without_a_type_no_body_is_read(&node).await;
    replays::an_answer_sent_back_is_a_replay(&node).await;
    visible::answers_look_alike(&node).await;
    visible::streams_look_alike(&node).await;
    visible::refusals_look_alike(&node).await;
    probes::tell_nothing_of_what_is_drawn(&node, &probes).await;
    unread::streams_hold_no_places(&node).await;
    log::no_line_is_long(node).await;
}

/// By holders of one key, or of one signature, at the expense of others.
#[tokio::test(flavor = "multi_thread")]
async fn on_a_node_with_several_keys() {
    let node = Target::start(&target::set(&signatures::settings())).await;
    connections::credentials_come_before_bodies(&node).await;
    queue::one_client_cannot_fill_the_queue(&node).await;
    signatures::one_pays_for_few_sealings(&node).await;
}

/// By floods: of envelopes, of nonces, of connections.
#[tokio::test(flavor = "multi_thread")]
async fn on_a_node_with_little_room() {
    let counts = [
        ("replay_capacity", replays::CAPACITY),
        ("quotes_per_minute", evidence::QUOTES),
        ("quotes_waiting", 16),
        ("max_connections", 64),
        // Nobody is let go for being slow alone.
        ("header_timeout_secs", 600),
        ("body_timeout_secs", 600),
        ("write_timeout_secs", 600),
    ];
    let settings = counts.map(|(key, count)| format!("{key}={count}"));
    let node = Target::start(&target::set(&settings)).await;
    replays::refused_requests_wear_out_no_key(&node).await;
    replays::forced_rotations_lock_nobody_out(&node).await;
    evidence::a_flood_of_nonces_refuses_no_verifier(&node).await;
    connections::bodies_that_do_not_arrive_keep_nobody_out(&node).await;
}
