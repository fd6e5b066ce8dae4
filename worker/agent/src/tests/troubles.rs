//! What a run does when the model service misbehaves.

use std::time::Duration;

use serde_json::json;

use super::harness::Bench;
use crate::{args::Provider, failure::Code, session::Ended};

const BOTH: [Provider; 2] = [Provider::Anthropic, Provider::Openai];

fn script(trouble: &str) -> String {
    format!(
        "rules:\n- trouble: \"{trouble}\"\n  steps:\n  - say: a text of several words, long enough for pieces\n"
    )
}

#[tokio::test]
async fn troubles_that_pass_are_waited_out() {
    for trouble in ["2x429:0", "2x500", "2x529", "2xcut"] {
        for provider in BOTH {
            let bench = Bench::new(provider, &script(trouble)).await;
            assert_eq!(
                bench.run("go").await,
                Ended::Finished,
                "{trouble} {provider:?}"
            );
            assert_eq!(bench.requests().len(), 3, "{trouble} {provider:?}");
            let retries = bench.events_of("status");
            assert_eq!(retries.len(), 2, "{trouble} {provider:?}");
            assert_eq!(retries[1]["fields"]["retry"], 2);
        }
    }
}

#[tokio::test]
async fn troubles_that_stay_end_the_run_with_their_code() {
    let cases = [
        ("401", Code::Auth, 1),
        ("403", Code::Auth, 1),
        ("400", Code::BadRequest, 1),
        ("429:0", Code::RateLimited, 4),
        ("500", Code::ProviderUnavailable, 4),
        ("529", Code::RateLimited, 4),
        ("cut", Code::ProviderUnavailable, 4),
    ];
    for (trouble, code, requests) in cases {
        for provider in BOTH {
            let bench = Bench::new(provider, &script(trouble)).await;
            assert_eq!(
                bench.run("go").await,
                Ended::Failed(code),
                "{trouble} {provider:?}"
            );
            assert_eq!(bench.requests().len(), requests, "{trouble} {provider:?}");
            assert_eq!(bench.events().pop().expect("an end")["code"], code.word());
        }
    }
}

#[tokio::test]
async fn a_refused_key_says_where_it_is_read_from() {
    let bench = Bench::new(Provider::Anthropic, &script("401")).await;
    bench.run("go").await;
    let message = bench.events().pop().expect("an end")["message"].to_string();
    assert!(message.contains("THE_KEY"), "{message}");
}

#[tokio::test]
async fn a_long_rate_limit_is_told_and_not_waited_for() {
    let bench = Bench::new(Provider::Anthropic, &script("429:3600")).await;
    assert_eq!(bench.run("go").await, Ended::Failed(Code::RateLimited));
    assert!(bench.events().pop().expect("an end")["resets_at"].is_u64());
    assert_eq!(bench.requests().len(), 1);
}

#[tokio::test]
async fn a_service_that_falls_silent_is_given_up() {
    for trouble in ["hang", "stall"] {
        let mut bench = Bench::new(Provider::Openai, &script(trouble)).await;
        bench.settings.model_timeout = Duration::from_millis(100);
        bench.settings.max_retries = 1;
        assert_eq!(
            bench.run("go").await,
            Ended::Failed(Code::ProviderUnavailable),
            "{trouble}"
        );
        assert_eq!(bench.requests().len(), 2, "{trouble}");
    }
}

#[tokio::test]
async fn a_slow_answer_comes_in_pieces_and_whole() {
    let bench = Bench::new(Provider::Openai, &script("slow:5")).await;
    assert_eq!(bench.run("go").await, Ended::Finished);
    let messages = bench.events_of("message");
    let (pieces, whole): (Vec<_>, Vec<_>) = messages
        .iter()
        .partition(|message| message["delta"] == json!(true));
    let joined: String = pieces
        .iter()
        .filter_map(|piece| piece["content"].as_str())
        .collect();
    assert!(pieces.len() > 1);
    assert_eq!(whole.len(), 1);
    assert_eq!(whole[0]["content"], joined);
}

#[tokio::test]
async fn a_service_that_is_not_there_is_named() {
    let mut bench = Bench::new(Provider::Openai, &script("500")).await;
    let gone = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = gone.local_addr().expect("it is bound");
    drop(gone);
    bench.settings.base_url = format!("http://{address}/v1");
    bench.settings.max_retries = 0;
    assert_eq!(
        bench.run("go").await,
        Ended::Failed(Code::ProviderUnavailable)
    );
    let message = bench.events().pop().expect("an end")["message"].to_string();
    assert!(message.contains(&address.to_string()), "{message}");
}
