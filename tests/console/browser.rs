//! As much of a browser as the pages need: it keeps the cookie, sends the form's word, and says where it comes from.

use std::fmt::Write as _;

use tokio::net::TcpStream;

use crate::room::{Answer, Room, request};

/// A browser at the TCP listener.
pub struct Browser<'a> {
    pub room: &'a Room,
    pub cookie: Option<String>,
}

impl<'a> Browser<'a> {
    pub fn new(room: &'a Room) -> Self {
        Self { room, cookie: None }
    }

    /// One that is signed in with a fresh token of that name.
    pub async fn signed_in(room: &'a Room, token: &str) -> Self {
        let made = room.ask("POST", "/api/v1/tokens", &[], &format!(r#"{{"name":"{token}"}}"#)).await.json();
        let mut browser = Self::new(room);
        let answer = browser.sign_in(made["token"].as_str().unwrap(), "/").await;
        assert_eq!((answer.status, location(&answer)), (303, "/"), "{answer:?}");
        browser
    }

    pub async fn sign_in(&mut self, token: &str, next: &str) -> Answer {
        let answer = self.send("POST", "/console/sign-in", &[], &form(&[("token", token), ("next", next)])).await;
        let kept = answer.head.lines().find_map(|line| line.strip_prefix("set-cookie: ")?.split(';').next());
        self.cookie = kept.map(String::from);
        answer
    }

    /// A request with what a browser sends along.
    pub async fn send(&self, method: &str, path: &str, headers: &[&str], body: &str) -> Answer {
        let host = self.room.tcp.to_string();
        let (cookie, origin) =
            (self.cookie.as_ref().map(|cookie| format!("Cookie: {cookie}")), format!("Origin: http://{host}"));
        let mut all = headers.to_vec();
        all.extend(cookie.as_deref());
        if method == "POST" {
            all.push("Content-Type: application/x-www-form-urlencoded");
            if !headers.iter().any(|header| header.starts_with("Origin")) {
                all.push(&origin);
            }
        }
        let stream = TcpStream::connect(self.room.tcp).await.unwrap();
        Room::exchange(stream, &request(method, path, &host, &all, body)).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], "").await
    }

    /// The page at a path, which must be there.
    pub async fn page(&self, path: &str) -> String {
        let answer = self.get(path).await;
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        answer.text
    }

    /// Sends a form of the page at `/console/apps/new`, which everybody has, with its word.
    pub async fn post(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let word = self.word().await;
        let mut all = vec![("form", word.as_str())];
        all.extend(fields);
        self.send("POST", path, &[], &form(&all)).await
    }

    /// The word that this browser's forms carry.
    pub async fn word(&self) -> String {
        let page = self.page("/console/apps/new").await;
        let word = page.split("name=\"form\" value=\"").nth(1).and_then(|rest| rest.split('"').next());
        word.unwrap_or_else(|| panic!("no word in {page}")).to_string()
    }
}

/// Where an answer leads.
pub fn location(answer: &Answer) -> &str {
    answer.head.lines().find_map(|line| line.strip_prefix("location: ")).unwrap_or_default()
}

/// Fields as a form sends them.
pub fn form(fields: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (name, value) in fields {
        let _ = write!(text, "{}{name}=", if text.is_empty() { "" } else { "&" });
        for byte in value.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => text.push(char::from(byte)),
                _ => _ = write!(text, "%{byte:02X}"),
            }
        }
    }
    text
}
