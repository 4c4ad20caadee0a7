//! Who may in, for how long, and what other sites cannot do.

use tokio::net::{TcpStream, UnixStream};

use crate::browser::{Browser, form, location};
use crate::room::{Room, open, request};

#[tokio::test]
async fn who_is_not_signed_in_is_sent_there_and_back() {
    let room = open().await;
    let mut browser = Browser::new(&room);
    let answer = browser.get("/").await;
    assert_eq!((answer.status, location(&answer)), (303, "/console/sign-in"));
    let answer = browser.get("/console/apps/crm").await;
    assert_eq!(location(&answer), "/console/sign-in?next=%2fconsole%2fapps%2fcrm", "{answer:?}");
    let page = browser.get("/console/sign-in?next=%2Fconsole%2Fqueue").await;
    assert!(page.text.contains(r#"name="next" value="/console/queue""#) && page.text.contains("<label for=\"token\">"));

    let made = room.ask("POST", "/api/v1/tokens", &[], r#"{"name":"ann"}"#).await.json();
    let answer = browser.sign_in(made["token"].as_str().unwrap(), "/console/queue").await;
    assert_eq!((answer.status, location(&answer)), (303, "/console/queue"));
    for part in ["httponly", "samesite=strict", "path=/", "max-age=43200"] {
        assert!(answer.head.contains(part), "{part}: {}", answer.head);
    }
    assert!(!answer.head.contains("secure"), "over plain HTTP a secure cookie would not come back: {}", answer.head);
    let page = browser.page("/console/queue").await;
    assert!(page.contains("token:ann") && page.contains("Sign out"), "{page}");
    assert_eq!(location(&browser.get("/console/sign-in").await), "/");
}

#[tokio::test]
async fn a_wrong_token_is_told_beside_its_field() {
    let room = open().await;
    let mut browser = Browser::new(&room);
    for wrong in ["nbs_wrong", "", &"x".repeat(600)] {
        let answer = browser.sign_in(wrong, "/").await;
        assert_eq!((answer.status, browser.cookie.as_deref()), (403, None), "{answer:?}");
        assert!(answer.text.contains("token-wrong") && answer.text.contains("not known here"), "{}", answer.text);
    }
    // A session that nobody began.
    browser.cookie = Some(format!("nbs_console={}", "0".repeat(64)));
    assert_eq!(browser.get("/").await.status, 303);
}

#[tokio::test]
async fn a_session_ends_with_its_button_and_with_its_token() {
    let room = open().await;
    let ann = Browser::signed_in(&room, "ann").await;
    let other = Browser::signed_in(&room, "other").await;
    let answer = ann.post("/console/sign-out", &[]).await;
    assert_eq!((answer.status, location(&answer)), (303, "/console/sign-in"));
    assert!(answer.head.contains("nbs_console=; path=/; max-age=0"), "{}", answer.head);
    assert_eq!(ann.get("/").await.status, 303, "the cookie is worth nothing any more");
    assert_eq!(other.get("/").await.status, 200);
    assert_eq!(room.ask("DELETE", "/api/v1/tokens/other", &[], "").await.status, 204);
    assert_eq!(other.get("/").await.status, 303, "a revoked token opens no page");
}

#[tokio::test]
async fn a_form_from_elsewhere_changes_nothing() {
    let room = open().await;
    room.create("crm").await;
    let ann = Browser::signed_in(&room, "ann").await;
    let bob = Browser::signed_in(&room, "bob").await;
    let path = "/console/apps/crm/start";
    for word in ["", "00", &bob.word().await] {
        let answer = ann.send("POST", path, &[], &form(&[("form", word)])).await;
        assert_eq!(answer.status, 403, "{word}: {answer:?}");
    }
    assert_eq!(ann.send("POST", path, &[], "").await.status, 403);
    // An app on another port of the same host counts as the same site, but it has another origin.
    let word = ann.word().await;
    for origin in ["Origin: http://evil.example.com", "Origin: null", "Origin: http://127.0.0.1:1"] {
        let answer = ann.send("POST", path, &[origin], &form(&[("form", &word)])).await;
        assert_eq!(answer.status, 403, "{origin}: {answer:?}");
    }
    let stranger = Browser::new(&room);
    assert_eq!(stranger.send("POST", path, &[], &form(&[("form", &word)])).await.status, 401);
    assert_eq!(room.get("/api/v1/apps/crm").await.json()["intent"], "on-demand");
    assert_eq!(ann.post(path, &[]).await.status, 303);
    assert_eq!(room.get("/api/v1/apps/crm").await.json()["intent"], "run");
}

#[tokio::test]
async fn nobody_is_signed_in_by_another_site() {
    let room = open().await;
    let made = room.ask("POST", "/api/v1/tokens", &[], r#"{"name":"mallory"}"#).await.json();
    let body = form(&[("token", made["token"].as_str().unwrap())]);
    let host = room.tcp.to_string();
    let kind = "Content-Type: application/x-www-form-urlencoded";
    for headers in [vec![kind], vec![kind, "Origin: http://evil.example.com"]] {
        let stream = TcpStream::connect(room.tcp).await.unwrap();
        let answer = Room::exchange(stream, &request("POST", "/console/sign-in", &host, &headers, &body)).await;
        assert_eq!(answer.status, 403, "{headers:?}: {answer:?}");
        assert!(!answer.head.contains("set-cookie"), "{}", answer.head);
    }
}

#[tokio::test]
async fn a_foreign_host_gets_no_page_at_either_listener() {
    let room = open().await;
    let stream = TcpStream::connect(room.tcp).await.unwrap();
    let answer = Room::exchange(stream, &request("GET", "/console/sign-in", "evil.example.com", &[], "")).await;
    assert_eq!(answer.status, 403, "{answer:?}");
    // A browser gets to the unix socket through a tunnel of ssh.
    let stream = UnixStream::connect(&room.socket).await.unwrap();
    let answer = Room::exchange(stream, &request("GET", "/", "evil.example.com:8080", &[], "")).await;
    assert_eq!(answer.status, 403, "{answer:?}");
}

#[tokio::test]
async fn over_the_unix_socket_nobody_signs_in_and_forms_are_checked_all_the_same() {
    let room = open().await;
    room.create("crm").await;
    let page = room.get("/").await;
    assert_eq!(page.status, 200, "{page:?}");
    assert!(!page.text.contains("Sign out"), "{}", page.text);
    let kind = "Content-Type: application/x-www-form-urlencoded";
    let path = "/console/apps/crm/start";
    assert_eq!(room.ask("POST", path, &[kind], "").await.status, 403);
    let word = page.text.split("name=\"form\" value=\"").nth(1).unwrap().split('"').next().unwrap();
    assert_eq!(
        room.ask("POST", path, &[kind, "Origin: http://evil.example"], &form(&[("form", word)])).await.status,
        403
    );
    assert_eq!(room.ask("POST", path, &[kind], &form(&[("form", word)])).await.status, 303);
}

#[tokio::test]
async fn every_answer_is_hardened() {
    let room = open().await;
    let browser = Browser::signed_in(&room, "ann").await;
    let paths = [
        "/",
        "/console/apps/new",
        "/console/sign-in",
        "/console/nowhere",
        "/console/apps/nobody",
        "/console/style.css",
    ];
    for path in paths {
        let head = browser.get(path).await.head;
        for part in
            ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "nosniff", "x-frame-options: deny"]
        {
            assert!(head.contains(part), "{path}: {part} is missing in {head}");
        }
        assert!(!head.contains("unsafe-inline"), "{path}: {head}");
        let kept = if path.ends_with(".css") { "cache-control: no-cache" } else { "cache-control: no-store" };
        assert!(path == "/console/sign-in" || head.contains(kept), "{path}: {head}");
    }
    let page = browser.page("/").await;
    assert!(!page.contains("<style") && !page.contains(" style=") && !page.contains(" onclick="), "{page}");
    assert_eq!(
        page.matches("<script").count(),
        page.matches("<script type=\"module\" src=\"/console/live.js\">").count()
    );
}

#[tokio::test]
async fn files_come_with_a_tag_and_are_not_sent_twice() {
    let room = open().await;
    for (path, kind) in [
        ("/console/live.js", "text/javascript"),
        ("/console/style.css", "text/css"),
        ("/console/icon.svg", "image/svg+xml"),
    ] {
        let first = Browser::new(&room).get(path).await;
        assert!(first.status == 200 && first.head.contains(kind) && !first.text.is_empty(), "{first:?}");
        let tag = first.head.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap();
        let again = Browser::new(&room).send("GET", path, &[&format!("If-None-Match: {tag}")], "").await;
        assert_eq!((again.status, again.text.as_str()), (304, ""), "{path}");
    }
}
