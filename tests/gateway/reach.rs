//! Whether an entry's gateway reaches the others, and what it says when not.

use nbsupervisor::ports::News;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::fleet::*;
use crate::house::*;

/// What is told of one environment at a URL.
async fn told(fleet: &Fleet, url: String) -> Result<(), String> {
    fleet.entry.show_in(Vec::new(), vec![at("env_a", url, false), at("local", "nowhere".into(), true)]);
    let (sender, mut news) = mpsc::channel(4);
    let end = CancellationToken::new();
    let task = tokio::spawn(fleet.entry.gateway.clone().watch_proxies(sender, end.clone()));
    let told = tokio::time::timeout(PATIENCE, news.recv()).await.unwrap();
    end.cancel();
    tokio::time::timeout(PATIENCE, task).await.unwrap().unwrap();
    match told {
        Some(News::Proxy(name, answer)) if name == environment("env_a") => answer,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_right_gateway_is_known_from_whoever_else_listens() {
    let fleet = Fleet::open().await;
    let right = fleet.worker("env_a", 0).await;
    assert_eq!(told(&fleet, url(&right)).await, Ok(()));
    let other = fleet.worker("env_b", 0).await;
    let wrong = told(&fleet, url(&other)).await.unwrap_err();
    assert!(wrong.contains("does not believe this entry") && wrong.contains("key export-worker env_a"), "{wrong}");
    let stranger = House::open(Default::default()).await;
    let wrong = told(&fleet, url(&stranger)).await.unwrap_err();
    assert!(wrong.contains("answers 404") && wrong.contains("ENVIRONMENT_PROXY_URL"), "{wrong}");
    let back = told(&fleet, url(&fleet.entry)).await.unwrap_err();
    assert!(back.contains("answers 503"), "{back}");
    let nbs_core::launch::Address::Port(port) = nobody().await else { panic!() };
    let gone = told(&fleet, format!("http://127.0.0.1:{port}")).await.unwrap_err();
    assert!(gone.contains("refused") && gone.contains("see to it that the daemon runs there"), "{gone}");
    let secure = told(&fleet, "https://h:1".into()).await.unwrap_err();
    assert!(secure.contains("plain HTTP"), "{secure}");
}

#[tokio::test]
async fn a_ping_by_a_stranger_is_no_secret_door() {
    let fleet = Fleet::open().await;
    let worker = fleet.worker_with_app("env_a", 0).await;
    assert!(worker.get("/__nbs/ping", "").await.starts_with("HTTP/1.1 404"));
    assert!(worker.get("/__nbs/ping", "X-Nbs-Hop: v1 nbs-ping 0 00\r\n").await.starts_with("HTTP/1.1 403"));
    assert!(worker.get("/__nbs/ping", "X-App: crm\r\n").await.contains("GET /__nbs/ping HTTP/1.1"));
}
