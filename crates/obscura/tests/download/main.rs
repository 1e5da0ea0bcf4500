//! `obscura models download`, the program itself, against a hub on loopback.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod bench;
mod hub;

use std::fs;

use bench::Bench;
use candle_core::Device;
use flux::{LoadOptions, Manifest, Pins, Pipeline, Precision};
use hub::{COMMIT, REPOSITORY, STRANGERS_TOKEN, TOKEN, TestHub, sha256};

/// The file that transfers are broken at: the first large one that is asked for.
const LARGE: &str = "text_encoder/model.safetensors";
/// How far back a transfer is taken up.
const OVERLAP_BYTES: u64 = 4096;

#[tokio::test(flavor = "multi_thread")]
async fn a_download_is_a_pinned_model_that_loads() {
    let bench = Bench::new();
    let hub = TestHub::open(bench.published()).await;
    let said = bench.download(&hub).succeeds();

    let pinned = bench.installed();
    assert_eq!(pinned.repository.as_deref(), Some(REPOSITORY));
    assert_eq!(pinned.revision.as_deref(), Some(COMMIT));
    assert_eq!(pinned.licence.as_deref(), Some("Apache-2.0"));
    assert_eq!(pinned.files, bench.manifest.files);
    let digest = pinned.digest().unwrap();
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(said.contains(&format!("manifest digest {hex}")), "{said}");

    let (device, precision) = (Device::Cpu, Precision::F32);
    let options = LoadOptions {
        device,
        precision,
        pins: Pins::Exactly(pinned),
        memory_limit: None,
        loras: Vec::new(),
    };
    assert_eq!(Pipeline::load(&bench.model(), options).unwrap().digest(), digest);

    assert_eq!(hub.sent_bytes(), bench.total_bytes());
    assert!(!bench.staging().exists(), "nothing is left beside the model");
    hub.requests();
    let said = bench.download(&hub).succeeds();
    assert!(said.contains("nothing to fetch"), "{said}");
    assert_eq!(hub.requests(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_without_a_published_digest_are_fetched_and_pinned() {
    let mut bench = Bench::new();
    for file in &mut bench.manifest.files {
        file.sha256 = None;
        file.bytes = None;
    }
    let hub = TestHub::open(bench.published()).await;
    bench.download(&hub).succeeds();
    let found = sha256(&fs::read(bench.published().join(LARGE)).unwrap());
    assert_eq!(bench.installed().file(LARGE).unwrap().sha256.unwrap().to_string(), found);
}

#[test]
fn nothing_is_fetched_over_a_way_that_others_can_read() {
    let bench = Bench::new();
    // An address that nobody answers at: refused before it is asked.
    let endpoint = "http://192.0.2.1:1";
    let said = bench.run(endpoint, &bench.manifest).fails();
    assert!(said.contains("--insecure-http") && said.contains(endpoint), "{said}");
    assert!(!bench.model().exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_branch_is_pinned_as_the_commit_that_it_is() {
    let bench = Bench::new();
    let hub = TestHub::open(bench.published()).await;
    bench.download(&hub).arg("--revision").arg("main").succeeds();
    assert_eq!(bench.installed().revision.as_deref(), Some(COMMIT));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_transfer_is_taken_up_where_it_was_cut() {
    let bench = Bench::new();
    let hub = TestHub::open(bench.published()).await;
    hub.faults().cuts = [20_000].into();
    bench.download(&hub).succeeds();
    assert_eq!(bench.installed().files, bench.manifest.files);
    assert_eq!(hub.sent_bytes(), bench.total_bytes() + OVERLAP_BYTES);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_cut_that_lasts_a_second_run_fetches_the_rest_alone() {
    let bench = Bench::new();
    let hub = TestHub::open(bench.published()).await;
    hub.faults().cuts = [20_000, 0, 0, 0, 0].into();
    let error = bench.download(&hub).fails();
    assert!(error.contains("20000 of ") && error.contains(LARGE), "{error}");
    assert!(!bench.model().exists(), "half a download is no model");
    let (first_bytes, _) = (hub.sent_bytes(), hub.requests());

    bench.download(&hub).succeeds();
    assert_eq!(bench.installed().files, bench.manifest.files);
    assert_eq!(first_bytes + hub.sent_bytes(), bench.total_bytes() + OVERLAP_BYTES);
    let last = bench.manifest.file(LARGE).unwrap().bytes.unwrap() - 1;
    let range = format!("GET {LARGE} bytes={}-{last}", 20_000 - OVERLAP_BYTES);
    let requests = hub.requests();
    assert!(requests.contains(&range), "{requests:?}");
    let before = bench.manifest.files.iter().take_while(|file| file.path != LARGE);
    for file in before {
        assert!(requests.iter().all(|request| !request.contains(&file.path)), "{requests:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_ignores_ranges_is_noticed() {
    let bench = Bench::new();
    let hub = TestHub::open(bench.published()).await;
    hub.faults().cuts = [20_000].into();
    hub.faults().ignores_ranges = true;
    bench.download(&hub).succeeds();
    assert_eq!(bench.installed().files, bench.manifest.files);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_before_is_kept_where_other_bytes_come_now() {
    let bench = Bench::new();
    let hub = TestHub::open(bench.published()).await;
    hub.faults().cuts = [20_000, 0, 0, 0, 0].into();
    bench.download(&hub).fails();
    let part = bench.part(LARGE);
    let mut bytes = fs::read(&part).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&part, &bytes).unwrap();
    let error = bench.download(&hub).fails();
    assert!(error.contains("other bytes") && error.contains(part.to_str().unwrap()), "{error}");
    assert_eq!(fs::read(&part).unwrap(), bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_digest_is_refused_and_the_file_is_kept() {
    let bench = Bench::new();
    let hub = TestHub::open(bench.published()).await;
    hub.faults().flips_a_bit = true;
    let expected = bench.manifest.file(LARGE).unwrap().sha256.unwrap().to_string();
    let part = bench.part(LARGE);

    for fetched in [true, false] {
        let error = bench.download(&hub).fails();
        let found = sha256(&fs::read(&part).unwrap());
        assert_ne!(found, expected);
        for told in [LARGE, &expected, &found, part.to_str().unwrap()] {
            assert!(error.contains(told), "{told} in {error}");
        }
        assert!(!bench.model().exists());
        let requested = hub.requests().iter().any(|request| request.contains(LARGE));
        assert_eq!(requested, fetched, "what is there is refused without asking again");
    }

    fs::remove_file(part).unwrap();
    hub.faults().flips_a_bit = false;
    bench.download(&hub).succeeds();
    assert_eq!(bench.installed().files, bench.manifest.files);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_length_is_refused_before_a_byte_is_fetched() {
    let mut bench = Bench::new();
    let file = bench.manifest.files.iter_mut().find(|file| file.path == LARGE).unwrap();
    file.bytes = Some(7);
    let hub = TestHub::open(bench.published()).await;
    let error = bench.download(&hub).fails();
    assert!(error.contains(LARGE) && error.contains("expected 7 bytes"), "{error}");
    assert_eq!(hub.sent_bytes(), 0);
    assert!(!bench.staging().exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gated_repository_wants_a_token_that_was_let_in() {
    let bench = Bench::new();
    let hub = TestHub::gated(bench.published()).await;
    let error = bench.download(&hub).fails();
    for told in ["HF_TOKEN", "hf auth login", &format!("licence at {}/{REPOSITORY}", hub.url)] {
        assert!(error.contains(told), "{told} in {error}");
    }
    let error = bench.download(&hub).env("HF_TOKEN", STRANGERS_TOKEN).fails();
    assert!(error.contains("the token may not read") && error.contains("licence"), "{error}");
    assert!(!error.contains(STRANGERS_TOKEN));
    assert!(!bench.model().exists());

    // Where `hf auth login` puts it.
    fs::write(bench.home().join("token"), TOKEN).unwrap();
    bench.download(&hub).succeeds();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tokens_variable_is_read() {
    let bench = Bench::new();
    let hub = TestHub::gated(bench.published()).await;
    bench.download(&hub).env("HF_TOKEN", TOKEN).succeeds();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_hub_does_not_have_is_named() {
    let bench = Bench::new();
    let hub = TestHub::open(bench.published()).await;
    let other = "f".repeat(40);
    let error = bench.download(&hub).arg("--revision").arg(&other).fails();
    assert!(error.contains(&format!("{REPOSITORY} has no revision {other}")), "{error}");

    let elsewhere =
        Manifest { repository: Some("test/elsewhere".to_owned()), ..bench.manifest.clone() };
    let error = bench.download_of(&hub, &elsewhere).fails();
    assert!(error.contains("has no repository test/elsewhere"), "{error}");

    fs::remove_file(bench.published().join(LARGE)).unwrap();
    let error = bench.download(&hub).fails();
    assert!(error.contains(&format!("has no file {LARGE}")), "{error}");
    assert!(!bench.staging().exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_is_not_there_is_named() {
    let bench = Bench::new();
    let nowhere = "http://127.0.0.1:9";
    let error = bench.run(nowhere, &bench.manifest).fails();
    assert!(error.contains(&format!("{nowhere} cannot be reached")), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn offline_what_is_there_is_enough() {
    let bench = Bench::new();
    let hub = TestHub::open(bench.published()).await;
    bench.download(&hub).succeeds();
    hub.requests();
    let said = bench.download(&hub).env("HF_HUB_OFFLINE", "1").succeeds();
    assert!(said.contains("nothing to fetch"), "{said}");

    // All fetched, and stopped before it became a model.
    let files = bench.staging().join(COMMIT).join("files");
    fs::create_dir_all(files.parent().unwrap()).unwrap();
    fs::rename(bench.model(), &files).unwrap();
    fs::remove_file(files.join("obscura.toml")).unwrap();
    bench.download(&hub).env("HF_HUB_OFFLINE", "1").succeeds();
    assert_eq!(bench.installed().files, bench.manifest.files);
    assert_eq!(hub.requests(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn offline_what_is_missing_is_told() {
    let bench = Bench::new();
    let hub = TestHub::open(bench.published()).await;
    let error = bench.download(&hub).env("HF_HUB_OFFLINE", "1").fails();
    let first = &bench.manifest.files[0].path;
    assert!(error.contains("HF_HUB_OFFLINE is set") && error.contains(first), "{error}");
    let error =
        bench.download(&hub).env("HF_HUB_OFFLINE", "true").arg("--revision").arg("main").fails();
    assert!(error.contains("HF_HUB_OFFLINE is set"), "{error}");
    assert_eq!(hub.requests(), [""; 0]);
    assert!(!bench.model().exists() && !bench.staging().exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lies_there_already_is_checked_and_never_touched() {
    let bench = Bench::new();
    let hub = TestHub::open(bench.published()).await;
    bench.download(&hub).succeeds();
    hub.requests();

    let path = bench.model().join(LARGE);
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&path, &bytes).unwrap();
    let error = bench.download(&hub).fails();
    let expected = bench.manifest.file(LARGE).unwrap().sha256.unwrap().to_string();
    for told in [LARGE, &expected, &sha256(&bytes)] {
        assert!(error.contains(told), "{told} in {error}");
    }

    let later = Manifest { revision: Some("f".repeat(40)), ..bench.manifest.clone() };
    let error = bench.download_of(&hub, &later).fails();
    assert!(error.contains(&format!("holds {REPOSITORY} at {COMMIT}")), "{error}");

    fs::remove_file(bench.model().join("obscura.toml")).unwrap();
    let error = bench.download(&hub).fails();
    assert!(error.contains("models pin"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), bytes);
    assert_eq!(hub.requests(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_cannot_name_a_place_outside() {
    let mut bench = Bench::new();
    bench.manifest.files[0].path = "../outside".to_owned();
    let hub = TestHub::open(bench.published()).await;
    let error = bench.download(&hub).fails();
    assert!(error.contains("not inside the model directory"), "{error}");
    assert_eq!(hub.requests(), [""; 0]);
}
