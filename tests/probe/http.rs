//! Readiness over HTTP: what counts as an answer, and what a slow or broken one leads to.

use std::time::Duration;

use nbs_core::launch::{Address, Question};
use nbs_core::observation::Answer;
use nbsupervisor::ports::{Prober, Watch};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpSocket, UnixListener};
use tokio::sync::oneshot;

use crate::rig::{Rig, exec, get, head, reply, server, unix};

fn health(expect_body: &str) -> Question {
    Question::Http {
        path: "/api/health?deep=1".into(),
        status: None,
        expect_body: Some(expect_body.into()),
        progress: Some("error.message".into()),
        failed_if: Some(("error.code".into(), "APP_ERROR".into())),
    }
}

#[tokio::test]
async fn a_start_is_followed_from_progress_to_ready() {
    let mut rig = Rig::new();
    let step = |text| reply(503, &format!(r#"{{"error":{{"code":"APP_COMMANDING","message":"{text}"}}}}"#));
    let failed = reply(503, r#"{"error":{"code":"APP_ERROR","message":"no database"}}"#);
    let answers =
        vec![step("load 1/2"), step("load 1/2"), step("load 2/2"), failed, reply(200, "<html>"), reply(200, "ok")];
    let (address, requests) = server(answers).await;
    rig.probes.watch_ready(rig.watch(address.clone(), health("ok")));
    let not_yet = |saw: &str, progress: Option<&str>, failed| Answer::NotYet {
        saw: saw.into(),
        progress: progress.map(Into::into),
        failed,
    };
    assert_eq!(rig.answer().await, not_yet("status 503", Some("load 1/2"), false));
    assert_eq!(rig.answer().await, not_yet("status 503", Some("load 2/2"), false));
    assert_eq!(rig.answer().await, not_yet("status 503, error.code is APP_ERROR", Some("no database"), true));
    assert_eq!(rig.saw().await, r#"status 200, but the body is "<html>", not "ok""#);
    assert_eq!(rig.answer().await, Answer::Ready);
    rig.idle().await;
    let requests = requests.lock().unwrap();
    let Some(Address::Port(port)) = address else { panic!() };
    assert_eq!(requests.len(), 6, "nothing is asked after Ready");
    let first = requests[0].to_ascii_lowercase();
    assert!(first.starts_with("get /api/health?deep=1 http/1.1\r\n"), "{first}");
    for line in [format!("host: 127.0.0.1:{port}"), "connection: close".into(), "user-agent: nbsupervisor-probe".into()]
    {
        assert!(first.contains(&format!("\r\n{line}\r\n")), "{line} in {first}");
    }
}

#[tokio::test]
async fn an_app_on_a_unix_socket_becomes_ready_when_it_listens() {
    let mut rig = Rig::new();
    let path = rig.dir.path().join("app.sock");
    rig.probes.watch_ready(rig.watch(unix(&path), Question::Tcp));
    assert_eq!(rig.saw().await, "the socket is not there");
    let _listener = UnixListener::bind(&path).unwrap();
    assert_eq!(rig.answer().await, Answer::Ready);
}

#[tokio::test]
async fn http_is_asked_over_a_unix_socket_too() {
    let mut rig = Rig::new();
    let path = rig.dir.path().join("app.sock");
    let listener = UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(&reply(204, "")).await.unwrap();
        std::future::pending::<()>().await;
    });
    rig.probes.watch_ready(rig.watch(unix(&path), get("/")));
    assert_eq!(rig.answer().await, Answer::Ready);
}

#[tokio::test]
async fn refused_turns_into_ready_soon_after_the_app_listens() {
    let mut rig = Rig::new();
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = Some(Address::Port(socket.local_addr().unwrap().port()));
    // A recipe's interval is far longer than a young process waits.
    let watch = Watch { interval: Duration::from_secs(600), ..rig.watch(address, Question::Tcp) };
    rig.probes.watch_ready(watch);
    assert_eq!(rig.saw().await, "connection refused");
    let _listener = socket.listen(8).unwrap();
    assert_eq!(rig.answer().await, Answer::Ready);
}

#[tokio::test]
async fn a_server_that_never_answers_hits_the_timeout() {
    let mut rig = Rig::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = Some(Address::Port(listener.local_addr().unwrap().port()));
    let watch = Watch { timeout: Duration::from_millis(80), ..rig.watch(address, get("/")) };
    rig.probes.watch_ready(watch);
    assert_eq!(rig.saw().await, "no answer within 80ms");
    let (mut stream, _) = listener.accept().await.unwrap();
    assert!(head(&mut stream).await.starts_with("GET"));
}

#[tokio::test]
async fn a_body_that_trickles_hits_the_timeout_and_only_when_it_is_wanted() {
    let mut rig = Rig::new();
    let head_only = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no".to_vec();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = Some(Address::Port(listener.local_addr().unwrap().port()));
    tokio::spawn(async move {
        let mut open = Vec::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            head(&mut stream).await;
            let _ = stream.write_all(&head_only).await;
            open.push(stream);
        }
    });
    let watch = Watch { timeout: Duration::from_millis(80), ..rig.watch(address.clone(), health("ok")) };
    rig.probes.watch_ready(watch);
    assert_eq!(rig.saw().await, "no answer within 80ms");
    rig.probes.watch_ready(rig.watch(address, get("/")));
    assert_eq!(rig.answer().await, Answer::Ready);
}

#[tokio::test]
async fn a_huge_body_is_cut() {
    let mut rig = Rig::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = Some(Address::Port(listener.local_addr().unwrap().port()));
    let (tell, told) = oneshot::channel();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        head(&mut stream).await;
        let mut sent = 0usize;
        let mut part = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
        while sent < 1 << 30 && stream.write_all(&part).await.is_ok() {
            sent += part.len();
            part = vec![b'x'; 64 << 10];
        }
        tell.send(sent).unwrap();
    });
    rig.probes.watch_ready(rig.watch(address, health("ok")));
    assert!(rig.saw().await.contains("xxx\"…, not \"ok\""));
    // What was sent beyond the limit lies in the kernel's buffers.
    assert!(told.await.unwrap() < 64 << 20);
}

#[tokio::test]
async fn what_is_not_http_is_said_so() {
    let cases: [(&[u8], &str); 3] = [
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "the answer is not HTTP"),
        (b"", "the connection was closed without an answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok", "the answer broke off"),
    ];
    for (answer, saw) in cases {
        let mut rig = Rig::new();
        let (address, _) = server(vec![answer.to_vec()]).await;
        rig.probes.watch_ready(rig.watch(address, health("ok")));
        let seen = rig.saw().await;
        assert!(seen.starts_with(saw), "{seen}");
    }
}

#[tokio::test]
async fn an_endless_head_is_refused() {
    let mut rig = Rig::new();
    let mut answer = b"HTTP/1.1 200 OK\r\nX: ".to_vec();
    answer.resize(1 << 20, b'x');
    let (address, _) = server(vec![answer]).await;
    rig.probes.watch_ready(rig.watch(address, get("/")));
    let seen = rig.saw().await;
    assert!(seen.starts_with("the answer is not HTTP"), "{seen}");
}

#[tokio::test]
async fn who_listens_nowhere_cannot_be_asked() {
    let mut rig = Rig::new();
    rig.probes.watch_ready(rig.watch(None, get("/")));
    assert_eq!(rig.saw().await, "it listens nowhere, so nothing can be asked");
}

#[tokio::test]
async fn a_path_that_is_none_is_said_so() {
    let mut rig = Rig::new();
    let (address, _) = server(vec![reply(200, "")]).await;
    rig.probes.watch_ready(rig.watch(address, get("/a b")));
    assert!(rig.saw().await.starts_with("\"/a b\" is no path"));
}

#[tokio::test]
async fn a_started_process_is_ready_even_when_the_worker_is_behind() {
    let mut rig = Rig::with_room(1);
    rig.probes.watch_ready(rig.watch(None, Question::Started));
    assert_eq!(rig.probes.asked(), 0, "no task is needed");
    rig.probes.watch_ready(rig.watch(None, Question::Started));
    assert_eq!(rig.probes.asked(), 1, "a task waits for room");
    assert_eq!(rig.answer().await, Answer::Ready);
    assert_eq!(rig.answer().await, Answer::Ready);
    rig.idle().await;
}

#[tokio::test(start_paused = true)]
async fn a_command_is_asked_until_it_ends_well() {
    let mut rig = Rig::new();
    rig.runner.will(1, "not yet");
    rig.runner.will(1, "not yet");
    rig.runner.will(0, "");
    rig.probes.watch_ready(rig.watch(None, exec()));
    assert_eq!(rig.saw().await, "the command exited with status 1: not yet");
    assert_eq!(rig.answer().await, Answer::Ready);
    assert_eq!(rig.runner.calls(), 3);
    rig.idle().await;
}

#[tokio::test(start_paused = true)]
async fn a_starting_process_is_asked_often_and_later_at_the_interval() {
    let mut rig = Rig::new();
    let watch = Watch { interval: Duration::from_millis(100), ..rig.watch(None, exec()) };
    rig.probes.watch_ready(watch);
    assert_eq!(rig.saw().await, "the command timed out after 1s");
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert!((5..=9).contains(&rig.runner.calls()), "{}", rig.runner.calls());
    tokio::time::sleep(Duration::from_secs(3)).await;
    let at_first = rig.runner.calls();
    assert!((45..=70).contains(&at_first), "{at_first}");
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!((49..=50).contains(&(rig.runner.calls() - at_first)));
    assert!(rig.facts.try_recv().is_err(), "the same answer is told once");
}

#[tokio::test(start_paused = true)]
async fn an_adopted_process_is_asked_at_the_interval() {
    let mut rig = Rig::new();
    let watch = Watch { interval: Duration::from_secs(1), adopted: true, ..rig.watch(None, exec()) };
    rig.probes.watch_ready(watch);
    rig.saw().await;
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_eq!(rig.runner.calls(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_newer_watch_replaces_the_older_and_unwatch_ends_both_kinds() {
    let mut rig = Rig::new();
    rig.probes.watch_ready(rig.watch(None, exec()));
    rig.saw().await;
    rig.runner.will(0, "");
    rig.probes.watch_ready(rig.watch(None, exec()));
    assert_eq!(rig.answer().await, Answer::Ready);
    rig.idle().await;
    let calls = rig.runner.calls();
    rig.probes.watch_ready(rig.watch(None, exec()));
    rig.probes.watch_alive(rig.watch(None, exec()));
    assert_eq!(rig.probes.asked(), 1);
    rig.probes.unwatch(&crate::rig::app());
    assert_eq!(rig.probes.asked(), 0);
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(rig.runner.calls(), calls);
    assert!(rig.facts.try_recv().is_err());
}
